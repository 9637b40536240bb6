"""P4 and the pauses of P5: whether the end of a run is one that its runs and its options lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from queuekit.exploration.ledger import SOLO_AFTER, Ledger, Life, Run

UNKNOWN_TRIES = 10
"How often a job is put back whose function nobody knows (docs/limits.md)."

YEAR_MS = 366 * 86_400_000
"No pause is longer."


@dataclass(frozen=True)
class End:
    """The end of a run, as a worker sent it to the server."""

    fence: int
    claim: str
    target: str
    delay_ms: int
    ttl_ms: int
    charge: str
    flags: str
    result: bytes

    @property
    def lost(self) -> bool:
        """Whether it is told by somebody who found the lease over."""
        return "e" in self.flags


def check(ledger: Ledger, life: Life, run: Run | None, end: End) -> None:
    """Called with an accepted end, before it is entered."""
    options = life.options
    if "q" in end.flags or options is None:  # set aside, or written by a codec of the application's
        return
    if end.lost:
        _check_loss(ledger, life, end, options)
    else:
        _check_end(ledger, life, run, end, options)
    if end.target == "queued":
        _check_pause(ledger, life, end, options)


def _check_loss(ledger: Ledger, life: Life, end: End, options: dict[str, Any]) -> None:
    losses, allowed = life.losses + 1, options.get("max_lost", 2)
    wanted = "queued" if losses <= allowed else "failed"
    if life.status == "aborting":
        wanted = "aborted"
    if end.target != wanted:
        what = f"was made {end.target} at loss {losses} of {allowed} that are allowed"
        ledger.breach("P4", life.key, f"{what}; it should be {wanted}")
    if end.charge != "losses":
        ledger.breach("P4", life.key, f"was lost, and charged with {end.charge or 'nothing'}")
    if end.target == "queued" and (losses >= SOLO_AFTER) != ("s" in end.flags):
        ledger.breach("P4", life.key, f"was lost {losses} times, and who runs beside it is not set")


def _check_end(
    ledger: Ledger, life: Life, run: Run | None, end: End, options: dict[str, Any]
) -> None:
    if run is not None and run.open and not run.committing:
        run.own_end = True  # finish() or retry(), called by the task itself: its own choice
        return
    if run is not None and run.open:
        ledger.breach("P2", life.key, f"was ended as {end.target} while its task goes on")
    if end.target == "complete":
        if run is not None and run.outcome != "returned":
            how = run.outcome or "was never called"
            ledger.breach("P1", life.key, f"was made complete, and its task {how}")
        if end.charge:
            ledger.breach("P4", life.key, f"is complete, and charged with {end.charge}")
    elif end.charge == "failures":
        _check_failure(ledger, life, run, end, options)
    elif end.charge == "unknown":
        if run is not None and run.began_ms is not None:
            ledger.breach("P4", life.key, "was run, and put back as if nobody knew its function")
    elif end.charge:
        ledger.breach("P4", life.key, f"ended as {end.target}, and charged with {end.charge}")
    elif end.target == "failed" and life.unknown < UNKNOWN_TRIES:
        ledger.breach("P4", life.key, "was made failed, and no failure was counted")


def _over_time(ledger: Ledger, run: Run, timeout_s: float) -> bool:
    """Whether a run has had its time. A task may return as its time-out strikes, when its worker hung."""
    return bool(timeout_s) and ledger.steady_ms - run.steady_claimed_ms >= timeout_s * 1000


def _check_failure(
    ledger: Ledger, life: Life, run: Run | None, end: End, options: dict[str, Any]
) -> None:
    retries, timeout_s = options.get("retries", 1), options.get("timeout", 10) or 0
    failures = life.failures + 1
    spent = f"{failures} failure(s) of {retries} run(s) that it may have"
    returned = (
        run is not None and run.outcome == "returned" and not _over_time(ledger, run, timeout_s)
    )
    if end.target == "queued" and failures >= retries:
        ledger.breach("P4", life.key, f"is to run again after {spent}")
    elif end.target == "queued" and returned:
        ledger.breach("P4", life.key, "is to run again, and its task has returned")
    elif end.target == "failed" and failures < retries:
        # Two rules end it at once: its result cannot be stored, its arguments do not fit its task.
        misfit = run is not None and isinstance(run.error, TypeError)
        if not (returned or misfit):
            ledger.breach("P4", life.key, f"was made failed after {spent}")


def _check_pause(ledger: Ledger, life: Life, end: End, options: dict[str, Any]) -> None:
    """By the words of the documents: a fixed pause, or one drawn below a bound that doubles."""
    if end.charge not in ("failures", "losses"):
        return
    pause_ms = round(options.get("retry_delay", 0.0) * 1000)
    backoff = options.get("retry_backoff", False)
    if backoff is False:
        if end.delay_ms < pause_ms:
            what = f"is to run again in {end.delay_ms} ms, and its pause is {pause_ms} ms"
            ledger.breach("P5", life.key, what)
        elif end.delay_ms > pause_ms:
            what = f"is to run again in {end.delay_ms} ms only, and its pause is {pause_ms} ms"
            ledger.breach("P6", life.key, what)
        return
    cap_ms = YEAR_MS if backoff is True else round(backoff * 1000)
    bound_ms = min(pause_ms << min(life.failures + life.losses, 64), cap_ms, YEAR_MS)
    if end.delay_ms > bound_ms:
        what = f"is to run again in {end.delay_ms} ms only, and its backoff allows {bound_ms} ms"
        ledger.breach("P6", life.key, what)
