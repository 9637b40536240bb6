"""One job that kills its worker, and nine innocent ones beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.battery import run
from tests.chaos.form import Form
from tests.chaos.tasks import POISONED

POISON = Form(
    "poison", jobs=len(POISONED), workers=1, concurrency=len(POISONED), lease_s=2, patience_s=60
)

POISONOUS = "0-poison"
"Its key."

DEATHS = 3
"A job may be lost twice; the third time it fails."


@dataclass(frozen=True)
class Poisoning:
    """What it cost."""

    deaths: int
    end: str
    "What became of the job that kills."
    innocents: int
    "Of nine, those that are complete."
    seconds: float

    @property
    def sound(self) -> bool:
        return self.deaths <= DEATHS and self.innocents == len(POISONED) - 1


async def poisoning(peer: str, say: Callable[[str], None]) -> Poisoning:
    """Run it."""
    verdict = await run(peer, POISON, tasks=POISONED, say=say)
    end = "stuck" if POISONOUS in verdict.stuck else "failed"
    return Poisoning(verdict.ended_by_themselves, end, verdict.complete, verdict.seconds)
