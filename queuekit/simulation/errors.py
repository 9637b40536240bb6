"""What a simulation raises."""

from __future__ import annotations

from queuekit.errors import QueuekitError


class SimulationError(QueuekitError):
    """The world cannot do what was asked; the message says why, and what to do."""


class SimulationDeadlock(SimulationError):  # noqa: N818 (the field's word)
    """Nothing can ever happen again, and somebody waits."""


class SimulationLivelock(SimulationError):  # noqa: N818 (the field's word)
    """Steps go on without end while time stands still."""


class VirtualTimeLimit(SimulationError):  # noqa: N818 (what it is)
    """More virtual time passed in one wait than a test can have meant."""


class InvariantBroken(SimulationError, AssertionError):  # noqa: N818 (says what happened)
    """Something that must hold at every moment did not."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        "Of the invariant."


class JobsFailed(SimulationError):  # noqa: N818 (says what happened)
    """A job failed while `drain` ran; `queue` and `key` are those of the first."""

    def __init__(self, message: str, queue: str, key: str) -> None:
        super().__init__(message)
        self.queue = queue
        self.key = key


class RefusedInSimulation(SimulationError, OSError):  # noqa: N818 (says what happened)
    """Something that would reach out of the simulation."""


class ProcessDied(SimulationError):  # noqa: N818 (says what happened)
    """A process died while somebody waited for what it did."""

    def __init__(self, message: str, process: str = "") -> None:
        super().__init__(message)
        self.process = process
        "The `id` of the start that died."


class ProcessFailed(SimulationError):  # noqa: N818 (says what happened)
    """A process ended by an exception or with a status other than 0, and nobody has asked for it."""


class CallbackFailed(SimulationError):  # noqa: N818 (says what happened)
    """A callback of the event loop raised, which asyncio logs only."""


class TaskFailed(SimulationError):  # noqa: N818 (says what happened)
    """A task ended by an exception that nobody has asked for, which asyncio logs at some time."""


class FaultNeverFired(SimulationError):  # noqa: N818 (says what happened)
    """A misfortune was asked for and did not happen."""


class ServersDisagree(SimulationError):  # noqa: N818 (says what happened)
    """The embedded Redis and a real one answered a command differently, or hold different things."""


class ThreadStuck(SimulationError):  # noqa: N818 (says what happened)
    """A sync task, or a thread of one, did not give its turn back: nobody else can have one."""


class ThreadEnded(BaseException):
    """Raised in a sync task that still runs when its world ends, so that its thread ends too.

    And in sync code on the event loop whose process is killed at a command that it sends.
    """
