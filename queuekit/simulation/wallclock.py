"""The wall clock of a process that simulates: virtual inside a simulation, real everywhere else.

freezegun does the finding: it puts its own functions wherever a module holds `datetime`, `time.time`
and the like. It is started once a process, which costs some milliseconds, and never pushed: the
functions it puts there are ours, and ask at each call whose time it is. A `freeze_time` of the
application's own tests works on top of that, but not inside a simulation, where it is refused.

Three things of freezegun's are set right. Its list of modules to ignore has `queue`, matched as a
prefix, so that a package named queuekit would live in real time; the list is emptied. It derives
`monotonic` and `perf_counter` from the date; ours run from near zero, and never backwards. And it
leaves `time.sleep` alone, which in a simulation would stop the world.
"""

from __future__ import annotations

import datetime
import sys
import types
from collections.abc import Callable
from typing import Any

import freezegun
from freezegun import api, config

from queuekit.simulation import blocking, other_clocks, polling, programs, sockets, threads_by_hand
from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.scope import current_clock, current_loop

_EPOCH = api.real_datetime(1970, 1, 1)
_REPLACED = (
    "fake_time fake_time_ns fake_monotonic fake_monotonic_ns fake_perf_counter fake_perf_counter_ns "
    "fake_localtime fake_gmtime fake_strftime"
).split()
_original: dict[str, Any] = {name: getattr(api, name) for name in _REPLACED}
_original_start = api._freeze_time.start
_DATETIME_METHODS = ("now", "today", "utcnow", "fromtimestamp", "timestamp", "astimezone")
_original_methods: dict[str, Any] = {
    name: api.FakeDatetime.__dict__[name] for name in _DATETIME_METHODS
}
_original_date_today = api.FakeDate.__dict__["today"]


class _LiveFactory:
    """What freezegun asks for the time: ours, at each call."""

    def __call__(self) -> datetime.datetime:
        clock = current_clock()
        if clock is None:
            return api.real_datetime.now(datetime.UTC).replace(tzinfo=None)
        return _EPOCH + datetime.timedelta(microseconds=clock.time_ns() // 1000)

    @property
    def time_to_freeze(self) -> datetime.datetime:
        return self()

    def tick(self, delta: object = None) -> Any:
        raise SimulationError("time belongs to the simulation: use simulation.advance().")

    move_to = tick


_live = _LiveFactory()
_freeze: Any = None


def _ours_on_top() -> bool:
    """Whether no `freeze_time` of somebody else's is in force."""
    factories: list[object] = list(api.freeze_factories)
    return bool(factories) and factories[-1] is _live


def _elsewhere(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, seen by freezegun as one of its own.

    freezegun looks at the modules of its callers, and a `freeze_time` of the application's ignores
    those whose names begin with `queue`: ours.
    """
    names = {**globals(), "__name__": "freezegun.queuekit"}
    return types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )


def _timefunction(
    name: str, real: Callable[..., Any], virtual: Callable[[VirtualClock], Any]
) -> Callable[[], Any]:
    def ask() -> Any:
        clock = current_clock()
        if clock is not None:
            return virtual(clock)
        return real() if _ours_on_top() or not api.freeze_factories else _original[name]()

    ask.__name__ = name
    return _elsewhere(ask)


def _passing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function of freezegun's, which outside of a simulation is the real one."""

    def ask(*args: Any) -> Any:
        if current_clock() is None and (_ours_on_top() or not api.freeze_factories):
            return real(*args)
        return _original[name](*args)

    ask.__name__ = name
    return _elsewhere(ask)


def _passing_method(name: str) -> Any:
    """A method of freezegun's datetime, which outside of a simulation is the real one."""
    original = _original_methods[name]

    if name in ("timestamp", "astimezone"):

        def method(self: Any, *args: Any, **options: Any) -> Any:
            if current_clock() is None and (_ours_on_top() or not api.freeze_factories):
                return _as_fake(getattr(api.real_datetime, name)(self, *args, **options))
            return original(self, *args, **options)

        return method

    def class_method(cls: Any, *args: Any, **options: Any) -> Any:
        if current_clock() is None and (_ours_on_top() or not api.freeze_factories):
            return _as_fake(getattr(api.real_datetime, name)(*args, **options))
        return original.__get__(None, cls)(*args, **options)

    return classmethod(class_method)


def _as_fake(value: Any) -> Any:
    return api.datetime_to_fakedatetime(value) if isinstance(value, api.real_datetime) else value


def _date_today(cls: Any) -> Any:
    if current_clock() is None and (_ours_on_top() or not api.freeze_factories):
        return api.date_to_fakedate(api.real_date.today())
    return _original_date_today.__get__(None, cls)()


def _start(self: Any) -> Any:
    if current_loop() is not None:
        raise SimulationError(
            "freeze_time() inside a simulation: two clocks cannot own the same time.\n"
            "  Use simulation.advance(), or start= of the simulation to choose the date."
        )
    return _original_start(self)


def install() -> None:
    """Take over the process's clocks, once; later calls only check.

    Raises:
        SimulationError: a `freeze_time` is in force.
    """
    global _freeze  # noqa: PLW0603 (the process has one wall clock)
    if api.freeze_factories and not _ours_on_top():
        raise SimulationError(
            "freezegun has frozen the time already, and a simulation owns its time.\n"
            "  Leave freeze_time() before the simulation begins; start= chooses the date."
        )
    if _freeze is not None:
        return
    api.fake_time = _timefunction("fake_time", api.real_time, lambda clock: clock.time())
    api.fake_time_ns = _timefunction(
        "fake_time_ns", api.real_time_ns, lambda clock: clock.time_ns()
    )
    for kind in ("monotonic", "perf_counter"):
        real, real_ns = getattr(api, f"real_{kind}"), getattr(api, f"real_{kind}_ns")
        setattr(api, f"fake_{kind}", _timefunction(f"fake_{kind}", real, VirtualClock.monotonic))
        elapsed = _timefunction(f"fake_{kind}_ns", real_ns, lambda clock: clock.elapsed_ns)
        setattr(api, f"fake_{kind}_ns", elapsed)
    for kind in ("localtime", "gmtime", "strftime"):
        setattr(api, f"fake_{kind}", _passing(f"fake_{kind}", getattr(api, f"real_{kind}")))
    for name in _DATETIME_METHODS:
        setattr(api.FakeDatetime, name, _passing_method(name))
    setattr(api.FakeDate, "today", classmethod(_date_today))  # noqa: B010 (mypy knows it as a method)
    _freeze = _start_freezegun()
    _replace_everywhere(blocking.real_sleep, blocking.sleep)
    other_clocks.install()
    sockets.install()
    polling.install()
    programs.install()
    threads_by_hand.install()
    api._freeze_time.start = _start  # type: ignore[method-assign]


def _start_freezegun() -> Any:
    ignored = config.settings.default_ignore_list
    config.settings.default_ignore_list = []
    try:
        freeze = freezegun.freeze_time("2030-01-01")
        _original_start(freeze)
    finally:
        config.settings.default_ignore_list = ignored
    api.freeze_factories[-1] = _live  # type: ignore[call-overload]
    return freeze


def _replace_everywhere(old: object, new: object) -> None:
    """Wherever a loaded module holds a function under a name of its own."""
    for module in list(sys.modules.values()):
        if module is blocking:  # it keeps both
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old:
                setattr(module, name, new)


def uninstall() -> None:
    """Give the clocks back."""
    global _freeze  # noqa: PLW0603 (as above)
    if _freeze is None:
        return
    _freeze.stop()
    _freeze = None
    for name, function in _original.items():
        setattr(api, name, function)
    for name, method in _original_methods.items():
        setattr(api.FakeDatetime, name, method)
    setattr(api.FakeDate, "today", _original_date_today)  # noqa: B010 (as above)
    _replace_everywhere(blocking.sleep, blocking.real_sleep)
    other_clocks.uninstall()
    threads_by_hand.uninstall()
    programs.uninstall()
    polling.uninstall()
    sockets.uninstall()
    api._freeze_time.start = _original_start  # type: ignore[method-assign]
