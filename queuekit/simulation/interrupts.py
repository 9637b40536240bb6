"""Ctrl-C while a simulation runs: it is the test run's, and none of the simulated processes'.

A KeyboardInterrupt comes up in the midst of whatever runs, which may take it in (many a worker does, to
end in good order). So the loop is told besides, and ends its world at the next turn.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from signal import SIGINT
from types import FrameType
from typing import Any

# Not those of `signal`, which simulated programs have others of, and which look for an enum that the handler
# may be a member of: that takes as long as five steps of a loop, each time.
_real_signal = _signal.signal
_real_getsignal = _signal.getsignal


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
        handler = _real_getsignal(SIGINT)
        if callable(handler) and not isinstance(getattr(handler, "__self__", None), Interrupts):
            self._before = handler
            _real_signal(SIGINT, self._interrupt)

    def leave(self) -> None:
        """Put the handler back."""
        before, self._before = self._before, None
        if before is not None:
            _real_signal(SIGINT, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before(number, frame)
        except KeyboardInterrupt as interrupt:
            self._told(interrupt)
            raise
