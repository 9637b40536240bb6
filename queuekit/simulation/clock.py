"""The one clock of a simulation: integer nanoseconds, moved by its loop and by nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from queuekit.simulation.errors import SimulationError

Moment = datetime | float | int | str
"An aware datetime, epoch seconds, or ISO text (UTC when it names no zone)."

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NS = 1_000_000_000
"Nanoseconds in a second."

MAX_RATE = 1_000
"Seconds that a clock that runs wrong counts in one: below it. Beyond is no clock."


class VirtualClock:
    """Wall clock and monotonic clock in one.

    The monotonic side starts near zero, the wall side at `start_ns`; both move together. Worlds that
    follow one another on a loop go on with its monotonic time, which never decreases, while each has
    a wall clock of its own: `elapsed_ns` is where the new one begins.
    """

    def __init__(self, start_ns: int, elapsed_ns: int = 0) -> None:
        self.elapsed_ns = elapsed_ns
        "Monotonic time in nanoseconds."
        self._offset_ns = start_ns - elapsed_ns

    def time_ns(self) -> int:
        """The wall clock, in nanoseconds since the epoch."""
        return self._offset_ns + self.elapsed_ns

    def time(self) -> float:
        """The wall clock, in seconds since the epoch."""
        return (self._offset_ns + self.elapsed_ns) / NS

    def monotonic(self) -> float:
        """Monotonic time in seconds."""
        return self.elapsed_ns / NS

    def move_to(self, elapsed_ns: int) -> None:
        """Move monotonic time forward to a moment."""
        assert elapsed_ns >= self.elapsed_ns, "virtual time must not run backwards"
        self.elapsed_ns = elapsed_ns


class OwnClock(VirtualClock):
    """The clock of one host: the world's, with an error of its own.

    Its wall clock may be ahead or behind, and all of it may run too fast or too slow. What it has shown is
    never taken back, but for a wall clock that is set.
    """

    def __init__(self, true: VirtualClock) -> None:
        self._true = true
        self._offset_ns = true.time_ns() - true.elapsed_ns
        self.skew_ns = 0
        "How far its wall clock is ahead."
        self.rate = 1.0
        "Seconds that it counts in a true one."
        self._since_ns = self._shown_ns = true.elapsed_ns

    @property
    def elapsed_ns(self) -> int:  # type: ignore[override]
        true_ns = self._true.elapsed_ns
        if self.rate == 1.0:
            return self._shown_ns + true_ns - self._since_ns
        return self._shown_ns + round((true_ns - self._since_ns) * self.rate)

    def time_ns(self) -> int:
        return self._offset_ns + self.elapsed_ns + self.skew_ns

    def time(self) -> float:
        return self.time_ns() / NS

    def set_skew(self, seconds: float) -> None:
        """Let the wall clock be so far ahead of the true one, by its own count."""
        self.skew_ns = round(seconds * NS)

    def set_rate(self, rate: float) -> None:
        """Count so many seconds in a true one from now on.

        Raises:
            SimulationError: it would stand still, or run backwards.
        """
        if not 0 < rate < MAX_RATE:
            raise SimulationError(
                f"a clock that counts {rate!r} s in a second is none.\n"
                "  drift=0.01 is one that gains 10 ms a second; it is above -1."
            )
        self._shown_ns, self._since_ns = self.elapsed_ns, self._true.elapsed_ns
        self.rate = rate

    def true_at(self, shown_ns: int) -> int:
        """When, by the world's clock, this one shows that (monotonic nanoseconds)."""
        return self._since_ns + round((shown_ns - self._shown_ns) / self.rate)


def _in_a_calendar(moment: object) -> bool:
    """Whether it is seconds since 1970 that a datetime can have."""
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return (
        isinstance(moment, int | float)
        and not isinstance(moment, bool)
        and (earliest - EPOCH).total_seconds() <= moment <= (latest - EPOCH).total_seconds()
    )


def epoch_ns(moment: Moment) -> int:
    """A moment as nanoseconds since the epoch, exact to the microsecond.

    Raises:
        SimulationError: text that is no ISO date, or a datetime without time zone.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            raise SimulationError(f"{moment!r} is no ISO 8601 moment: {error}") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    fits = isinstance(moment, datetime) or _in_a_calendar(moment)
    if not fits:
        raise SimulationError(
            f"{moment!r} is no moment.\n"
            "  It is an aware datetime, ISO text, or seconds since 1970, in the years 1 to 9999."
        )
    if not isinstance(moment, datetime):
        return round(moment * 1_000_000) * 1000
    if moment.tzinfo is None:
        raise SimulationError(
            f"{moment!r} has no time zone, so it names no moment.\n"
            "  Pass an aware one: datetime(2030, 1, 1, tzinfo=UTC)."
        )
    # Not timestamp(): a float of this size has no room for microseconds times a thousand.
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
