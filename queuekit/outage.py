"""Redis is away: how long to pause between two tries, and how seldom to say so."""

from __future__ import annotations

import logging

from queuekit.environment import environment
from queuekit.text import gist, one_line, text_of

logger = logging.getLogger("queuekit")

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0
"The longest pause between two tries to reach Redis. A worker is back within 2 s of its return."

SAY_AGAIN_S = 30.0
"While an outage lasts, it is mentioned at most this often."

SAME_OUTAGE_S = 5.0
"One that begins again so soon after its end is the same one: a flapping server must not fill a log."


class Backoff:
    """Pauses that double up to a limit, half of each left to chance so that clients spread."""

    def __init__(self, longest_s: float = MAX_PAUSE_S) -> None:
        self._longest_s = longest_s
        self.reset()

    def reset(self) -> None:
        """Begin with the short ones again."""
        self._next_s = FIRST_PAUSE_S

    def next_s(self) -> float:
        """The pause to make now, in seconds."""
        upper = self._next_s
        self._next_s = min(2 * upper, self._longest_s)
        return upper / 2 + environment().jitter(upper / 2)


class Outage:
    """What a worker knows of Redis being away. All its duties share it, so that one voice speaks.

    A duty that fails notes it, one that succeeds says that it is over. The outage lasts as long as
    any duty fails: claims may work while the blocking read is refused.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._failing: dict[str, None] = {}
        self._began = 0.0
        self._ended = float("-inf")
        self._said = float("-inf")
        self._to_be_closed = False
        "Whether something was said since the last word that all is well."

    @property
    def lasts(self) -> bool:
        """Whether some duty could not reach Redis when it last tried."""
        return bool(self._failing)

    def note(self, duty: str, error: BaseException) -> None:
        """A duty could not reach Redis. Said at once when the outage begins, and seldom after that."""
        now = environment().monotonic()
        if not self._failing and now - self._ended > SAME_OUTAGE_S:
            self._began, self._said = now, float("-inf")
        self._failing[duty] = None
        if now - self._said < SAY_AGAIN_S:
            return
        self._said, self._to_be_closed = now, True
        lasting = f" for {now - self._began:.0f} s" if now > self._began else ""
        logger.warning(
            "worker %s cannot use Redis%s (%s): %s. It goes on trying.",
            one_line(self._who),
            one_line(lasting),
            one_line(duty),
            gist(text_of(error).split("\n", 1)[0]),
        )

    def over(self, duty: str) -> None:
        """A duty has reached Redis."""
        if self._failing.pop(duty, self) is self or self._failing:
            return
        self._ended = environment().monotonic()
        if self._to_be_closed:
            self._to_be_closed = False
            away = f"{self._ended - self._began:.1f} s"
            logger.info("worker %s has Redis back after %s", one_line(self._who), one_line(away))
