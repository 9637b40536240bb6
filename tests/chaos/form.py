"""How large a battery is, and which misfortunes it holds."""

from __future__ import annotations

from dataclasses import dataclass, fields

FAULTS = ("kills", "stops", "cuts", "restarts", "flushes", "memory", "readonly", "promote")
"Fields of a form that count faults; docs/reliability.md says what each does."

DEFAULT_LEASE_S = 30.0
"Where nothing is to be recovered the default will do: a busy machine must not look like a fault."


@dataclass(frozen=True)
class Form:
    """One battery. All that happens in it follows from these numbers, and from the machine's whims."""

    title: str = "custom"
    jobs: int = 2000
    workers: int = 8
    concurrency: int = 4
    lease_s: float = 3.0
    "A tenth of the default, so that a battery with faults is short; windows and stops go by it."
    kills: int = 0
    "Workers killed with SIGKILL and replaced."
    stops: int = 0
    "Workers stopped with SIGSTOP past their lease, and continued."
    cuts: int = 0
    "Half of all connections cut: before the server gets a command, after it did it, or half-open."
    restarts: int = 0
    "The server killed with SIGKILL, and started again on its append-only file."
    flushes: int = 0
    "SCRIPT FLUSH."
    memory: int = 0
    "Windows in which maxmemory is below what is used, under noeviction."
    readonly: int = 0
    "Windows without writes: the server a replica of nobody, or in want of a replica (in turn)."
    promote: int = 0
    "A replica takes the place of the primary, which is killed."
    skew_s: float = 0.0
    "Every third worker's wall clock is ahead by so much, every third behind."
    seed: int = 1
    patience_s: float = 120.0
    "After the last fault: what is not back by then counts as stuck."

    @property
    def faults(self) -> int:
        return sum(getattr(self, name) for name in FAULTS)

    def describe(self) -> str:
        """Its numbers, those that are not zero."""
        shown = [f"{getattr(self, f.name)} {f.name}" for f in fields(self) if f.name in FAULTS]
        told = [text for text in shown if not text.startswith("0 ")]
        if self.skew_s:
            told.append(f"clocks skewed by {self.skew_s:g} s both ways")
        return f"{self.jobs:,} jobs, {self.workers} workers, {', '.join(told) or 'no faults'}"


SHORT = Form(
    "short",
    jobs=2000,
    kills=16,
    stops=5,
    cuts=10,
    restarts=3,
    flushes=3,
    memory=2,
    readonly=2,
    promote=1,
    skew_s=3600,
)
"Part of `make test`."

NO_FAULT = Form("no faults", jobs=10_000, lease_s=DEFAULT_LEASE_S)

SKEWED = Form("clocks skewed", jobs=2000, skew_s=3600, lease_s=DEFAULT_LEASE_S)

FULL = Form(
    "all faults",
    jobs=20_000,
    kills=60,
    stops=20,
    cuts=20,
    restarts=10,
    flushes=10,
    memory=10,
    readonly=4,
    promote=2,
)
