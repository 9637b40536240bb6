"""`select.poll` and `select.select` of sync clients, in virtual time where they ask for simulated sockets."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Any

from queuekit.simulation.blocking import loop_here
from queuekit.simulation.client_end import ClientEnd, wait_for_any
from queuekit.simulation.sockets import end_of

_real_poll = select.poll
_real_select = select.select


class _Poll:
    """A poll object: what it asks of simulated sockets it asks of their descriptors."""

    def __init__(self) -> None:
        self._real = _real_poll()
        self._ends: dict[int, ClientEnd] = {}

    def register(self, fd: Any, *mask: int) -> None:
        self._real.register(fd, *mask)
        end = end_of(fd)
        if end is not None and (not mask or mask[0] & select.POLLIN):
            self._ends[end.descriptor()] = end

    def modify(self, fd: Any, mask: int) -> None:
        self.unregister(fd)
        self.register(fd, mask)

    def unregister(self, fd: Any) -> None:
        self._real.unregister(fd)
        self._ends.pop(fd if isinstance(fd, int) else fd.fileno(), None)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Which are ready, waiting so many milliseconds for the first (None, or below 0: without end)."""
        if not self._ends:
            return self._real.poll(timeout)
        found = self._real.poll(0)
        if not found and timeout != 0:
            endless = timeout is None or timeout < 0
            wait_for_any(list(self._ends.values()), None if endless else timeout / 1000)  # type: ignore[operator]
            found = self._real.poll(0)
        return found


def _poll() -> Any:
    return _real_poll() if loop_here() is None else _Poll()


def _select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    asked = (list(rlist), list(wlist), list(xlist))
    ends = [end for end in map(end_of, asked[0]) if end is not None]
    if not ends or loop_here() is None:
        return _real_select(*asked, timeout)
    found = _real_select(*asked, 0)
    if timeout != 0 and not any(found):
        wait_for_any(ends, timeout)
        found = _real_select(*asked, 0)
    return found


def install() -> None:
    """Let `select` know simulated sockets."""
    setattr(select, "poll", _poll)  # noqa: B010 (mypy knows it as a type)
    select.select = _select


def uninstall() -> None:
    """Put back what Python's library has there."""
    setattr(select, "poll", _real_poll)  # noqa: B010 (as above)
    select.select = _real_select
