"""P2 from the runs themselves: when a task is called, and who else runs it then."""

from __future__ import annotations

from collections.abc import Mapping

from queuekit.exploration import labels
from queuekit.exploration.ledger import Ledger, Life, Run
from queuekit.simulation.process import Process

BEHIND_S = 2.0
"""A worker that is cut off learns that its lease has ended when its last try to renew it gives up; it
tries each half second, and no try outlasts the lease."""


def began(ledger: Ledger, life: Life, run: Run) -> None:
    """Called when a task is called, before it is entered."""
    key, now_ms = life.key, ledger.now_ms
    taken = run.let_go == "lost" and _cannot_know(ledger, run)
    if not life.holds(run.fence, life.claim) and not taken:
        how = life.status if life.over else f"{life.status} under fence {life.fence}"
        ledger.breach("P2", key, f"was begun by fence {run.fence}, and it is {how}")
    elif now_ms >= run.lease_end_ms and not _cannot_know(ledger, run):
        late = (now_ms - run.lease_end_ms) / 1000
        ledger.breach("P2", key, f"was begun by {run.worker} {late:g} s after its lease had ended")
    for other in life.runs:
        if other is run or not other.open or other.own_end:
            continue
        if other.worker == run.worker:  # now it knows, whatever it thought of its lease
            other.lease_over_ns = min(other.lease_over_ns, ledger.now_ns)
        if taken or other.let_go == "lost" or now_ms >= other.lease_end_ms:
            ledger.reach(labels.OVERLAP)
        else:
            left = (other.lease_end_ms - now_ms) / 1000
            what = f"was begun by {run.worker} while {other.worker} runs it"
            ledger.breach("P2", key, f"{what}, whose lease lasts {left:g} s more")
    _check_alone(ledger, life, run)


def check_cap(ledger: Ledger, life: Life, run: Run, concurrency: int) -> None:
    """A worker runs no more jobs at once than it has slots; called when a task was called.

    One that the worker no longer holds does not count: which call of a job was left behind cannot be told
    once the same worker runs that job anew.
    """
    before = ledger.begun.get(run.worker, [])
    beside = [each for each in before if each.open and not each.let_go and each is not run]
    ledger.begun[run.worker] = [*beside, run]
    if len(beside) >= concurrency:
        what = f"was begun by {run.worker}, whose concurrency is {concurrency}, beside {len(beside)} others"
        ledger.breach("P2", life.key, what)


def goes_on(ledger: Ledger, life: Life, run: Run, clean_up_s: float, held_back_ns: int) -> None:
    """A worker gives a run up when its lease has ended by its own clock; called when a task ends."""
    process = run.process
    if process is None or not run.open or run.own_end or not run.lease_over_ns:
        return
    if process.stands_still or process.clock.rate != 1:
        return
    over_ns, told_ns = run.lease_over_ns, run.told_lost_ns
    if (
        told_ns is not None and (process.loop.disturbed_ns or 0) <= told_ns
    ):  # the word has reached it
        over_ns = min(over_ns, told_ns)
    since_ns = max(over_ns, process.fit_since_ns, held_back_ns)
    behind_s = (ledger.now_ns - since_ns) / 1e9
    if behind_s > BEHIND_S + clean_up_s:
        what = f"its task went on in {run.worker} for {behind_s:g} s behind its lease"
        ledger.breach("P2", life.key, f"{what}, and nothing kept that worker from ending it")


def told(
    ledger: Ledger, life: Life, process: Process | None, details: Mapping[str, object]
) -> None:
    """A worker says how a run of its has ended: once, and not other than Redis says."""
    number = details["attempt"]
    if ledger.anew or not isinstance(number, int) or not 0 < number <= len(life.runs):
        return
    run = life.runs[number - 1]
    if process is None or run.process is not process:
        return
    if not (run.committing or run.own_end or run.let_go == "lost"):
        return  # nothing has ended this one: it is the word of a run of the key's last life
    if run.told:
        ledger.breach("P3", life.key, f"run {number} was ended as {run.told}, and ended again")
    run.told = str(details["event"])
    if run.let_go == "lost" and run.told != "lost":
        what = f"its worker says of run {number} that it was {run.told}, and it was lost"
        ledger.breach("P3", life.key, what)


def _check_alone(ledger: Ledger, life: Life, run: Run) -> None:
    """A job that was lost twice has its process for itself (P4)."""
    for other_life in ledger.held.values():
        other = other_life.run
        if other is None or other_life is life or other.worker != run.worker or not other.open:
            continue
        if life.solo or other_life.solo:
            suspect, beside = (life, other_life) if life.solo else (other_life, life)
            what = f"was lost {suspect.losses} times, and does not run alone: {beside.key!r} runs beside it"
            ledger.breach("P4", suspect.key, what)


def _cannot_know(ledger: Ledger, run: Run) -> bool:
    """Whether a worker may still count on its lease: its clocks run wrong, or the server's was set."""
    drifts = run.process is not None and run.process.clock.rate != 1
    return drifts or ledger.now_ns < run.lease_over_ns
