"""Which workers a queue must know, by what it was told of them."""

from __future__ import annotations

from collections.abc import Mapping

FORGOTTEN_AT_ONCE = 100
"Workers that have fallen silent, at another one's word."


class Presence:
    """The workers that must be entered, and until when each counts as alive."""

    def __init__(self, until_ms: Mapping[str, float] = {}) -> None:
        self.until_ms = {worker: int(moment) for worker, moment in until_ms.items()}

    def spoke(self, worker: str, until_ms: int) -> None:
        """Word of it has come: it counts as alive until then."""
        self.until_ms[worker] = until_ms

    def left(self, worker: str) -> None:
        """It has said so."""
        self.until_ms.pop(worker, None)

    def forget_the_silent(self, now_ms: int) -> list[str]:
        """Another worker has spoken: those that count as gone by now, which are entered no more."""
        silent = sorted(
            (until_ms, worker) for worker, until_ms in self.until_ms.items() if until_ms <= now_ms
        )
        gone = [worker for _, worker in silent[:FORGOTTEN_AT_ONCE]]
        for worker in gone:
            del self.until_ms[worker]
        return gone
