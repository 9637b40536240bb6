"""Who listens in on a world without being part of it: what the server did, what clients saw, who ran.

A tap is told in the midst of things, synchronously. It draws nothing, sends nothing and writes no line of
the trace, so that a run is the same with it and without. Observers, who may hold things back, are another
matter (`observe.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.simulation.process import Process
    from queuekit.simulation.wire import Wire


class Tap:
    """Hears everything, and does nothing about it; subclasses override what they need."""

    def executed(self, wire: Wire, command: list[bytes], reply: Any) -> object | None:
        """The server has executed a command; what is given back is a token of its reply, or None."""
        return None

    def received(self, wire: Wire, token: object) -> None:
        """That reply has reached its client."""

    def closed(self, wire: Wire) -> None:
        """A connection is no more; replies that were on their way are lost."""

    def moment(self, name: str, details: Mapping[str, object]) -> None:
        """A named point in a job's life."""

    def began(self, job: Job) -> None:
        """The task of a job is called now."""

    def ended(self, job: Job, error: BaseException | None) -> None:
        """That call is over: it has returned, or raised this."""

    def killed(self, process: Process) -> None:
        """A process is gone."""

    def disturbed(self, what: str) -> None:
        """Somebody has meddled with the network, the server, a clock or a process."""

    def data_changed(self, what: str) -> None:
        """The server no longer holds what it had acknowledged: it is empty, or back at an earlier state."""

    def instant_ends(self, next_ns: int) -> None:
        """All that can be done now is done; time goes to `next_ns` (of the clock's elapsed time)."""
