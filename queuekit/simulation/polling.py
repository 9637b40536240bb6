"""`select` and `selectors` of sync clients, in virtual time where they ask for simulated sockets.

What is asked of other descriptors besides is seen when a simulated one is ready, or the time is up. Where
there are only others, the wait is a real one.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Iterable
from typing import Any, Self

from queuekit.simulation.blocking import loop_here, sleep
from queuekit.simulation.client_end import ClientEnd, wait_for_any
from queuekit.simulation.sockets import end_of

_real_poll = select.poll
_real_epoll: Any = getattr(select, "epoll", None)  # of Linux
_real_select = select.select


class _Asking:
    """What a poll object asks of simulated sockets, it asks of their descriptors."""

    _readable: int

    def __init__(self, real: Any) -> None:
        self._real = real
        self._ends: dict[int, ClientEnd] = {}

    def register(self, fd: Any, *mask: int) -> None:
        self._real.register(fd, *mask)
        end = end_of(fd)
        if end is not None and (not mask or mask[0] & self._readable):
            self._ends[end.descriptor()] = end

    def modify(self, fd: Any, mask: int) -> None:
        self.unregister(fd)
        self.register(fd, mask)

    def unregister(self, fd: Any) -> None:
        self._real.unregister(fd)
        self._ends.pop(fd if isinstance(fd, int) else fd.fileno(), None)


class _Poll(_Asking):
    _readable = select.POLLIN

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Which are ready, waiting so many milliseconds for the first (None, or below 0: without end)."""
        found: list[tuple[int, int]] = self._real.poll(0 if self._ends else timeout)
        if not self._ends:
            return found
        if not found and timeout != 0:
            endless = timeout is None or timeout < 0
            wait_for_any(list(self._ends.values()), None if endless else timeout / 1000)  # type: ignore[operator]
            found = self._real.poll(0)
        return found


class _Epoll(_Asking):
    _readable = getattr(select, "EPOLLIN", 0)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Likewise, in seconds."""
        found: list[tuple[int, int]] = self._real.poll(0 if self._ends else timeout, maxevents)
        if not self._ends:
            return found
        if not found and timeout != 0:
            endless = timeout is None or timeout < 0
            wait_for_any(list(self._ends.values()), None if endless else timeout)
            found = self._real.poll(0, maxevents)
        return found

    def __getattr__(self, name: str) -> Any:  # close, closed, fileno
        return getattr(self._real, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()


def _poll() -> Any:
    return _real_poll() if loop_here() is None else _Poll(_real_poll())


class _EpollType:
    """Stands for the class `select.epoll`."""

    def __call__(self, sizehint: int = -1, flags: int = 0) -> Any:
        real = _real_epoll(sizehint, flags)
        return real if loop_here() is None else _Epoll(real)

    def __getattr__(self, name: str) -> Any:  # fromfd
        return getattr(_real_epoll, name)


_epoll = _EpollType()


def _select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    asked = (list(rlist), list(wlist), list(xlist))
    if timeout and not any(asked) and loop_here() is not None:
        sleep(timeout)
        return [], [], []
    ends = [end for end in map(end_of, asked[0]) if end is not None]
    if not ends or loop_here() is None:
        return _real_select(*asked, timeout)
    found = _real_select(*asked, 0)
    if timeout != 0 and not any(found):
        wait_for_any(ends, timeout)
        found = _real_select(*asked, 0)
    return found


_REPLACED: list[tuple[Any, str, Any, Any]] = [
    (select, "poll", _real_poll, _poll),
    (select, "select", _real_select, _select),
    # These have kept what was there when they were made. `DefaultSelector` is one of them.
    (selectors.SelectSelector, "_select", staticmethod(_real_select), staticmethod(_select)),
    (selectors.PollSelector, "_selector_cls", _real_poll, staticmethod(_poll)),
]
if _real_epoll is not None:
    _REPLACED += [
        (select, "epoll", _real_epoll, _epoll),
        (selectors.EpollSelector, "_selector_cls", _real_epoll, _epoll),
    ]


def install() -> None:
    """Let `select` and `selectors` know simulated sockets."""
    for owner, name, _, ours in _REPLACED:
        setattr(owner, name, ours)


def uninstall() -> None:
    """Put back what Python's library has there."""
    for owner, name, real, _ in _REPLACED:
        setattr(owner, name, real)
