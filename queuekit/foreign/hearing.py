"""What a server did for the clients of a foreign queue: command by command, transactions taken apart.

It listens on the tap, where a command is heard when it was executed: one that was lost on its way is none,
whatever its client believes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from queuekit.simulation.tap import Tap

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.simulation.process import Process
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation

Executed = tuple[list[bytes], Any]
"A command, and what the server answered."

Listener = Callable[["Process | None", list[Executed]], None]
"Called with whose client it was, and what was executed at once: a transaction's commands, or the one."


class Hearing(Tap):
    """Tells a listener of all that is executed; who has listened before goes on to."""

    def __init__(self, simulation: Simulation, listener: Listener) -> None:
        self._before = simulation.loop.tap
        self._listener = listener
        self._queued: dict[int, list[list[bytes]]] = {}
        "By connection: the commands of its transaction."
        simulation.loop.tap = self

    def executed(self, wire: Wire, command: list[bytes], reply: Any) -> object | None:
        self._hear(wire, command, reply)
        return None if self._before is None else self._before.executed(wire, command, reply)

    def _hear(self, wire: Wire, command: list[bytes], reply: Any) -> None:
        name = command[0].upper()
        queued = self._queued.get(wire.number)
        if name == b"MULTI":
            self._queued[wire.number] = []
        elif name in (b"EXEC", b"DISCARD"):
            self._queued.pop(wire.number, None)
            if name == b"EXEC" and isinstance(reply, list):
                done = zip(queued or (), reply, strict=True)
                self._listener(wire.process, [pair for pair in done if _worked(pair[1])])
        elif queued is not None:
            if reply in (b"QUEUED", "QUEUED"):
                queued.append(command)
        elif _worked(reply):
            self._listener(wire.process, [(command, reply)])

    # -- what does not concern it

    def received(self, wire: Wire, token: object) -> None:
        if self._before is not None:
            self._before.received(wire, token)

    def closed(self, wire: Wire) -> None:
        self._queued.pop(wire.number, None)
        if self._before is not None:
            self._before.closed(wire)

    def moment(self, name: str, details: Mapping[str, object]) -> None:
        if self._before is not None:
            self._before.moment(name, details)

    def began(self, job: Job) -> None:
        if self._before is not None:
            self._before.began(job)

    def ended(self, job: Job, error: BaseException | None) -> None:
        if self._before is not None:
            self._before.ended(job, error)

    def killed(self, process: Process) -> None:
        if self._before is not None:
            self._before.killed(process)

    def disturbed(self, what: str) -> None:
        if self._before is not None:
            self._before.disturbed(what)

    def data_changed(self, what: str) -> None:
        if self._before is not None:
            self._before.data_changed(what)

    def instant_ends(self, next_ns: int) -> None:
        if self._before is not None:
            self._before.instant_ends(next_ns)


def _worked(reply: Any) -> bool:
    return not isinstance(reply, Exception)
