"""What must hold at every moment, in the words of whoever writes the test."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from queuekit.simulation import diagnosis
from queuekit.simulation.errors import InvariantBroken, SimulationError
from queuekit.store import scripts
from queuekit.store.server import Server

if TYPE_CHECKING:
    from queuekit.simulation.world import Simulation

Rule = Callable[..., object]

SHOWN_ENTRIES = 20
"Of the journal, in a failure: the last so many."

READING_SCRIPTS = frozenset({"read"})
READING_COMMANDS = frozenset(
    "EXISTS GET HGET HGETALL HLEN HMGET LLEN LRANGE MGET PTTL TIME TTL TYPE ZCARD ZCOUNT ZRANGE "
    "ZRANGEBYSCORE ZREVRANGE ZSCORE".split()
)
"What an async invariant may ask Redis: nothing that leaves a trace there."


class Invariants:
    """The rules of one simulation; each is asked at the end of every instant, and of the run."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._rules: list[tuple[str, Rule, bool]] = []

    def add(self, rule: Rule, name: str | None) -> None:
        """One more, from now on."""
        if not callable(rule):
            raise SimulationError(
                f"an invariant is a function, and {rule!r} is none.\n"
                "  It is called at each moment; it raises, or gives False, when it does not hold.\n"
                "  simulation.invariant(lambda: stock >= 0, name='no negative stock')"
            )
        if not self._rules:
            self._simulation.loop.at_instants_end.append(self._instant_ends)
        # What has a default keeps it: `lambda most=n: ...` is how a loop gives each rule its own number.
        parameters = inspect.signature(rule).parameters.values()
        takes = any(each.default is each.empty for each in parameters)
        self._rules.append((name or _name_of(rule), rule, takes))

    def _instant_ends(self, next_ns: int) -> None:
        self.check()

    def check(self) -> None:
        """Ask them all now.

        Raises:
            InvariantBroken: the first that does not hold.
        """
        for name, rule, takes in self._rules:
            try:
                holds = rule(self._simulation) if takes else rule()
                if inspect.iscoroutine(holds):
                    holds = _driven(self._simulation, holds)
            except (
                Exception
            ) as error:  # whatever a test raises; jobs are not concerned, the run ends
                if isinstance(error, SimulationError) and not isinstance(error, AssertionError):
                    raise
                raise InvariantBroken(name, self._words(name, f"{error}")) from error
            if holds is False:
                raise InvariantBroken(name, self._words(name, "it gave False"))

    def _words(self, name: str, why: str) -> str:
        simulation = self._simulation
        entries = simulation.journal.entries[-SHOWN_ENTRIES:]
        lines = [f"  {diagnosis.describe(entry)}  {entry.key}" for entry in entries]
        return (
            f"the invariant {name!r} does not hold at {simulation.now.isoformat()}: {why}\n"
            "It must hold whenever all of a moment is done, before time moves on.\n"
            "What happened last:\n" + ("\n".join(lines) or "  (nothing)") + f"\nin {simulation!r}"
        )


def _name_of(rule: Rule) -> str:
    """The same in each process, since a failure is known by it."""
    while isinstance(rule, partial):
        rule = rule.func
    return str(getattr(rule, "__name__", type(rule).__name__))


def _driven(simulation: Simulation, coroutine: Coroutine[Any, Any, object]) -> object:
    """The coroutine's result. Between two moments it can look at queues; it cannot wait.

    Nothing of the world runs meanwhile, and what the queue's methods ask of Redis is answered from beside.
    """
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(simulation.loop)  # at the end of the run it does not run any more
    with _answered_from_beside(simulation):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            result: object = stop.value
            return result
        finally:
            asyncio._set_running_loop(running)
            coroutine.close()
    raise SimulationError(
        f"the invariant {coroutine!r} waits for something.\n"
        "  It is asked between two moments, when nothing else runs, so no wait of it can end.\n"
        "  It may await what reads a queue (job, jobs, iter_jobs, count, info); collect the rest in"
        " your tasks, and look at that."
    )


@contextlib.contextmanager
def _answered_from_beside(simulation: Simulation) -> Iterator[None]:
    """In the block `Server` asks the simulated Redis directly, and may only read."""
    network = simulation.loop.network
    assert network is not None

    def ask(words: Sequence[Any]) -> Any:
        reply = network.look(*map(_encoded, words))
        if isinstance(reply, Exception):
            raise SimulationError(f"Redis refused {words[0]} of an invariant: {reply}")
        return reply

    async def run(server: Server, name: str, root: str, *arguments: Any) -> Any:
        if name not in READING_SCRIPTS:
            raise _writes(name)
        # Another text has another SHA-1: the world does not find the script loaded where it was not.
        text = f"{scripts.load(name).text}\n-- asked by an invariant"
        return ask(("EVAL", text, 1, root, simulation.environment.script_now(), *arguments))

    async def command(server: Server, *words: Any) -> Any:
        if str(words[0]).upper() not in READING_COMMANDS:
            raise _writes(str(words[0]))
        return ask(words)

    async def pipeline(server: Server, *commands: Sequence[Any]) -> list[Any]:
        return [await command(server, *words) for words in commands]

    async def wait(server: Server, *words: Any, seconds: float) -> Any:
        raise _writes(str(words[0]))

    before = {name: Server.__dict__[name] for name in ("run", "command", "pipeline", "wait")}
    try:
        for function in (run, command, pipeline, wait):
            setattr(Server, function.__name__, function)
        yield
    finally:
        for name, function in before.items():
            setattr(Server, name, function)


def _encoded(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")


def _writes(what: str) -> SimulationError:
    return SimulationError(
        f"an invariant may only look, and this one would change the queue ({what}).\n"
        "  It is asked at moments when the application does nothing.\n"
        "  Read with job, jobs, iter_jobs, count or info; change things in the test itself."
    )
