"""Ctrl-C while a simulation runs: it is the test run's, and none of the simulated processes'.

A KeyboardInterrupt comes up in the midst of whatever runs, which may take it in (many a worker does, to
end in good order). So the loop is told besides, and ends its world at the next turn.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_real_signal = signal.signal
_real_getsignal = signal.getsignal
"Python's own: those of simulated programs are others."


class Interrupts:
    """Listens for Ctrl-C while a loop runs.

    Args:
        told: called when it has come, before the KeyboardInterrupt is raised.
    """

    def __init__(self, told: Callable[[KeyboardInterrupt], None]) -> None:
        self._told = told
        self._before: Any = None

    def listen(self) -> None:
        """Stand in for the handler that is there; not in threads, nor where Ctrl-C is ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = _real_getsignal(signal.SIGINT)
        if callable(handler) and not isinstance(getattr(handler, "__self__", None), Interrupts):
            self._before = handler
            _real_signal(signal.SIGINT, self._interrupt)

    def leave(self) -> None:
        """Put the handler back."""
        before, self._before = self._before, None
        if before is not None:
            _real_signal(signal.SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before(number, frame)
        except KeyboardInterrupt as interrupt:
            self._told(interrupt)
            raise
