"""What sync programs of a simulation do with their process: signals, alarms, and forks.

Python runs a signal's handler in the main thread, in the midst of whatever that waits for; a test run
has one such thread, and it is not the program's. So the thread that sets a handler in a simulated
process is taken for the main one of that process. Only in baton threads does anything here stand in.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from queuekit.simulation.errors import RefusedInSimulation, SimulationError
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.process import PROCESS, Process
from queuekit.simulation.scope import STATE, current_loop
from queuekit.simulation.threads import Baton

_real_signal = signal.signal
_real_getsignal = signal.getsignal
_real_alarm = signal.alarm
_real_setitimer = signal.setitimer
_real_getitimer = signal.getitimer
_real_raise_signal = signal.raise_signal
_real_kill = os.kill
_real_fork = os.fork


class Program:
    """The signals of the sync code of one process."""

    def __init__(self, loop: SimulatedLoop, process: Process | None) -> None:
        self._loop = loop
        self._process = process
        self._handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
        self._main: tuple[Baton, int] | None = None
        "The thread that used signals last, and how many functions it had ended then."
        self._alarm: asyncio.TimerHandle | None = None
        self._interval = 0.0

    def handler(self, number: int) -> Any:
        return self._handlers.get(number, signal.SIG_DFL)

    def set_handler(self, number: int, handler: Any) -> Any:
        """Let this function handle a signal; the handler before."""
        number = signal.Signals(number)
        if number in (signal.SIGKILL, signal.SIGSTOP):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not callable(handler) and handler not in (signal.SIG_DFL, signal.SIG_IGN):
            raise TypeError(
                "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object"
            )
        self._is_used()
        before, self._handlers[number] = self.handler(number), handler
        if handler == signal.SIG_DFL:
            self._loop.remove_signal_handler(number)
        else:
            self._loop.add_signal_handler(number, self._deliver, number)
        return before

    def _is_used(self) -> None:
        baton = STATE.baton
        assert baton is not None
        self._main = (baton, baton.jobs)

    def send(self, number: int) -> None:
        """A signal of the process to itself."""
        if self._process is not None:
            self._process.signal(number)
        elif number in self._loop.signal_handlers:
            callback, arguments = self._loop.signal_handlers[number]
            self._loop.call_soon(callback, *arguments)
        else:
            raise SimulationError(
                f"signal {number} has no handler, and would end the process of the test itself.\n"
                "  Sync code that uses signals is a program; it handles them, or runs in a process.\n"
                "  simulation.process(name, main) is one: there the signal ends that alone."
            )

    def _deliver(self, number: int) -> None:
        """A step of the loop: run the handler where the program waits."""
        handler = self.handler(number)
        if not callable(handler):
            return
        self._interrupt(lambda: handler(number, sys._getframe(1)))

    def _interrupt(self, function: Callable[[], object]) -> None:
        assert self._main is not None
        baton, jobs = self._main
        if baton.jobs == jobs:
            baton.interrupt(function)
        else:  # the program's thread has ended; its process has not
            function()

    # -- alarms

    def timer(self) -> tuple[float, float]:
        """Seconds until the alarm, and between the ones behind it; 0 if there is none."""
        if self._alarm is None or self._alarm.cancelled():
            return 0.0, 0.0
        return max(1e-6, self._alarm.when() - self._loop.time()), self._interval

    def set_timer(self, seconds: float, interval: float) -> tuple[float, float]:
        """Send SIGALRM after so long, in virtual time (0: never); what was set before."""
        self._is_used()
        before = self.timer()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._interval = interval
        if seconds > 0:
            self._alarm = self._loop.call_later(seconds, self._ring)
        return before

    def _ring(self) -> None:
        self._alarm = None
        if self._interval:
            self._alarm = self._loop.call_later(self._interval, self._ring)
        if self._process is None and signal.SIGALRM not in self._loop.signal_handlers:
            self._interrupt(partial(self.send, signal.SIGALRM))  # tells why that would be wrong
        else:
            self.send(signal.SIGALRM)


def _program() -> Program | None:
    """That of the baton thread that asks; None outside of one."""
    if STATE.baton is None:
        return None
    loop = STATE.baton.loop
    process = PROCESS.get()
    owner = loop if process is None else process
    if owner.program is None:
        owner.program = Program(loop, process)
    return owner.program


def _signal(signalnum: int, handler: Any) -> Any:
    program = _program()
    if program is None:
        return _real_signal(signalnum, handler)
    return program.set_handler(signalnum, handler)


def _getsignal(signalnum: int) -> Any:
    program = _program()
    return _real_getsignal(signalnum) if program is None else program.handler(signalnum)


def _alarm(seconds: int) -> int:
    program = _program()
    if program is None:
        return _real_alarm(seconds)
    left, _ = program.set_timer(seconds, 0.0)
    return round(left + 0.5) if left else 0


def _setitimer(which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
    program = _program()
    if program is None or which != signal.ITIMER_REAL:
        return _real_setitimer(which, seconds, interval)
    return program.set_timer(seconds, interval)


def _getitimer(which: int) -> tuple[float, float]:
    program = _program()
    if program is None or which != signal.ITIMER_REAL:
        return _real_getitimer(which)
    return program.timer()


def _raise_signal(signalnum: int) -> None:
    program = _program()
    if program is None:
        _real_raise_signal(signalnum)
    else:
        program.send(signalnum)


def _kill(pid: int, sig: int) -> None:
    program = _program()
    if program is None or pid != os.getpid() or sig == 0:
        _real_kill(pid, sig)
    else:
        program.send(sig)


def _fork() -> int:
    if current_loop() is not None:
        raise RefusedInSimulation(
            "os.fork() in a simulation would copy the whole test run, its simulation with it.\n"
            "  Simulated processes are begun by the test: simulation.process(name, main).\n"
            "  Let the application run its work in its own process, or in threads."
        )
    return _real_fork()


_REPLACED: list[tuple[Any, str, Callable[..., Any], Callable[..., Any]]] = [
    (signal, "signal", _real_signal, _signal),
    (signal, "getsignal", _real_getsignal, _getsignal),
    (signal, "alarm", _real_alarm, _alarm),
    (signal, "setitimer", _real_setitimer, _setitimer),
    (signal, "getitimer", _real_getitimer, _getitimer),
    (signal, "raise_signal", _real_raise_signal, _raise_signal),
    (os, "kill", _real_kill, _kill),
    (os, "fork", _real_fork, _fork),
]


def install() -> None:
    """Let sync code in baton threads have the signals of its simulated process."""
    for owner, name, _, ours in _REPLACED:
        setattr(owner, name, ours)


def uninstall() -> None:
    """Put back what Python's library has there."""
    for owner, name, real, _ in _REPLACED:
        setattr(owner, name, real)
