"""Sending commands to Redis: what is tried again, for how long, and what is said when it fails.

All of the store goes through here, so these rules stand once:

- A script may always be sent twice, and what else is sent does no harm twice. So a lost connection
  is tried again at once, on a new one; after that the caller is told.
- A refusal that passes by itself (LOADING, BUSY, a failover, a slot that moves) is tried again for
  `PATIENCE_S`, with pauses that grow. Any other one is raised at once.
- A call ends within `CALL_LIMIT` times the socket's time-out, whatever happens.
- What is raised is a `ServerError`, and it says whether the command may have been executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from redis.exceptions import NoScriptError

from queuekit.environment import environment
from queuekit.errors import InvalidOptionError, NotReplicatedError, ServerError
from queuekit.outage import Backoff
from queuekit.store import scripts
from queuekit.store.connection import Command, Connections, Progress
from queuekit.store.refusals import (
    LEAVES_SERVER,
    REDIS_ERRORS,
    TRANSIENT,
    code_of,
    place_in,
    refused,
    unreachable,
)

PATIENCE_S = 5.0
"For how long a command that Redis refuses for the moment is tried again."

LONGEST_PAUSE_S = 0.5
"Between two such tries."

CALL_LIMIT = 3
"""Times the socket's time-out, after which a call gives up whatever it was at: two tries on half-open
connections, and some room. That is 15 s unless `socket_timeout` was given."""

LOST_TRIES = 2
"A connection that lay idle may have been closed long ago; a new one that is lost too is an outage."

REDIRECTIONS = 5
"Times that a Cluster may send a command on without a pause."

LOADS = 3
"Times that a script is loaded for one call: somebody may flush scripts meanwhile, but not for ever."

DURABILITIES = ("primary", "replica")
ACKNOWLEDGED = frozenset({"enqueue"})
"Scripts whose answer waits for a replica under `durability='replica'`."

REPLICA_LIMIT_S = 1.0
"For a replica to acknowledge an enqueue; at most half the socket's time-out, since the reply waits for it."


class Server:
    """The Redis of one queue."""

    def __init__(self, connections: Connections, durability: str = "primary") -> None:
        if durability not in DURABILITIES:
            raise InvalidOptionError(
                f"durability={durability!r} is none; it is 'primary' or 'replica'.\n"
                "  'primary': an enqueue is acknowledged when the primary has it;"
                " 'replica': when a replica has it too."
            )
        self._connections = connections
        self._durability = durability
        self._limit_s = connections.address.limit_s
        self._replica_limit_s = min(REPLICA_LIMIT_S, self._limit_s / 2)

    @property
    def embedded(self) -> bool:
        """Whether it lives in this process, for development."""
        return self._connections.address.kind == "backend"

    async def run(self, name: str, root: str, *arguments: Any) -> Any:
        """Run a script, and load it first where the server does not know it.

        Raises:
            ServerError: see the module.
        """
        script = scripts.load(name)
        # A simulation has no replicas: what its one Redis has is there for good.
        durable = self._durability == "replica" and name in ACKNOWLEDGED
        acknowledge = durable and not environment().simulated
        wait = [("WAIT", 1, round(self._replica_limit_s * 1000))] if acknowledge else []

        def commands() -> list[Command]:
            now = environment().script_now()
            return [("EVALSHA", script.sha, 1, root, now, *arguments), *wait]

        answer, *acknowledged = await self._insist(commands, script)
        if acknowledged and acknowledged[0] < 1:
            raise self._not_replicated()
        return answer

    async def command(self, *command: Any) -> Any:
        """Send one command. It is one that does no harm when it is sent twice."""
        [answer] = await self._insist(lambda: [command])
        return answer

    async def pipeline(self, *commands: Command) -> list[Any]:
        """Send several commands, which see the same moment but for what others do between them."""
        return await self._insist(lambda: commands)

    async def wait(self, *command: Any, seconds: float) -> Any:
        """A blocking read, which the server ends after `seconds`; tried once.

        Our own limit is for a connection that is half open.
        """
        line = self._connections.current().waiting
        progress = Progress()
        trial = _Trial(self._connections, progress, seconds + self._limit_s)
        try:
            async with asyncio.timeout(seconds + self._limit_s):
                [answer] = _checked(await line.exchange([command], progress))
                return answer
        except REDIS_ERRORS as error:
            await trial.learn_from(error, code_of(error))
            raise trial.verdict(error) from error

    async def _insist(
        self, commands: Callable[[], Sequence[Command]], script: scripts.Script | None = None
    ) -> list[Any]:
        """Their answers; tried again by the rules of this module."""
        clients = self._connections.current()
        progress = Progress()
        limit_s = CALL_LIMIT * self._limit_s
        trial = _Trial(self._connections, progress, limit_s)
        while True:
            try:
                return _checked(await clients.exchange(commands(), progress, trial.until))
            except NoScriptError as error:
                await self._load(script, trial, error)
            except REDIS_ERRORS as error:
                await trial.again_or_raise(error)

    async def _load(
        self, script: scripts.Script | None, trial: _Trial, error: NoScriptError
    ) -> None:
        trial.loads += 1
        if script is None or trial.loads > LOADS:
            raise trial.verdict(error) from error
        load = ("SCRIPT", "LOAD", script.text)
        try:
            _checked(await self._connections.current().exchange([load], Progress(), trial.until))
        except REDIS_ERRORS as failed:
            await trial.again_or_raise(failed)

    def _not_replicated(self) -> NotReplicatedError:
        return NotReplicatedError(
            f"no replica of Redis at {self._connections!r} acknowledged the enqueue"
            f" within {self._replica_limit_s:g} s.\n"
            "  The primary has it, and it may well run; a failover now could lose it.\n"
            "  See that a replica is connected (INFO replication). To enqueue again without doubling the job,"
            " enqueue the same Job object again.",
            may_have_happened=True,
        )


class _Trial:
    """One call's tries: how many, how long, and what is known of the command."""

    def __init__(self, connections: Connections, progress: Progress, limit_s: float) -> None:
        self._connections = connections
        self._limit_s = limit_s
        self.until = asyncio.get_running_loop().time() + limit_s
        "The moment of the loop's clock at which the call gives up, whatever it is at."
        self._progress = progress
        self._unsure = False
        "Whether an earlier try was sent and not answered."
        self._lost = 0
        self._redirections = 0
        self._patient_until = self.until - limit_s + min(PATIENCE_S, limit_s)
        self._pauses = Backoff(LONGEST_PAUSE_S)
        self.loads = 0

    async def again_or_raise(self, error: BaseException) -> None:
        """Return when the command is to be sent again, after a pause where one is due; else raise."""
        code = code_of(error)
        await self.learn_from(error, code)
        now = asyncio.get_running_loop().time()
        if code is None:
            self._unsure = self._unsure or self._progress.sent
            self._progress.sent = False
            self._lost += 1
            if now >= self.until:
                self._give_up(TimeoutError(f"no answer within {self._limit_s:g} s"))
            if self._lost >= LOST_TRIES:
                self._give_up(error)
            return
        self._progress.sent = False  # a refused command was not executed
        if code not in TRANSIENT:
            self._give_up(error)
        if code == "MOVED" and self._connections.current().route.finds:
            self._redirections += 1
            if self._redirections <= REDIRECTIONS:
                return
        pause = self._pauses.next_s()
        if now + pause > self._patient_until:
            self._give_up(error)
        await asyncio.sleep(pause)

    async def learn_from(self, error: BaseException, code: str | None) -> None:
        """What an error says about where the queue is, and about the connections that lie idle."""
        clients = self._connections.current()
        if code == "MOVED" and (place := place_in(error)):
            clients.route.moved(place)
        elif code is None or code in LEAVES_SERVER or code == "MOVED":
            clients.route.forget()
            await clients.commands.drop_idle()

    def _give_up(self, error: BaseException) -> NoReturn:
        raise self.verdict(error) from error

    def verdict(self, error: BaseException) -> ServerError:
        """The error to be raised for this one."""
        code = code_of(error)
        shown = repr(self._connections)
        if code is None:
            sent = self._unsure or self._progress.sent
            return unreachable(shown, error, sent=sent)
        return refused(shown, code, error, sent=self._unsure)


def _checked(replies: list[Any]) -> list[Any]:
    """The replies, unless one is a refusal."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
