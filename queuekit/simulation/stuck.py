"""Where a thread stands that does not give its turn back, in words for whoever has to mend it."""

from __future__ import annotations

import linecache
import sys
import sysconfig
import time
from pathlib import Path
from types import FrameType

_OURS = f"{Path(__file__).parents[1]}/"
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "purelib", "platlib"))
_DEBUGGERS = frozenset({"pdb", "pydevd"})

Place = tuple[int, int, int]
"A frame, an instruction in it, and the processor's time that the thread has had (ns)."


def place(thread: int) -> Place | None:
    """Where a thread stands, by its ident; the same one twice: it has done nothing meanwhile.

    The instruction alone would not tell: a busy loop is always seen at the one where it may be
    interrupted. None where the system does not count the time of threads, and while somebody debugs.
    """
    frame = sys._current_frames().get(thread)
    if frame is None or _is_debugged(frame) or not hasattr(time, "pthread_getcpuclockid"):
        return None
    clock = time.pthread_getcpuclockid(thread)
    return id(frame), frame.f_lasti, time.clock_gettime_ns(clock)


def _is_debugged(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def where(thread: int) -> str:
    """The line of the application's at which a thread stands, and that of a library in which it does."""
    frame = _out_of((_OURS,), sys._current_frames().get(thread))
    if frame is None:
        return "its end"
    application = _out_of((_OURS, *_LIBRARIES), frame)
    if application is None or application is frame:
        return _line(frame)
    return f"{_line(application)} (inside of it at {_line(frame, bare=True)})"


def _out_of(places: tuple[str, ...], frame: FrameType | None) -> FrameType | None:
    """The innermost caller that is in none of these directories."""
    while frame is not None and frame.f_code.co_filename.startswith((*places, "<")):
        frame = frame.f_back
    return frame


def _line(frame: FrameType, *, bare: bool = False) -> str:
    code = frame.f_code
    text = f"{Path(code.co_filename).name}:{frame.f_lineno}, in {code.co_name}"
    source = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return text if bare or not source else f"{text}: {source}"
