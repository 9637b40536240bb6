"""What the battery found, in the words of Jepsen's queue checker and a few of our own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.enqueuer import Enqueuer
from tests.chaos.evidence import Reader, Run
from tests.chaos.peers import ALLOWED_LOSSES, Record
from tests.chaos.sampler import Sampler

SLACK_MS = 5
"Two clocks of one machine, read one after the other and rounded, may differ by so much."


@dataclass
class Verdict:
    """Keys of jobs, each list with what is wrong about them; all are empty when all is well."""

    attempted: int = 0
    acknowledged: int = 0
    recovered: int = 0
    "The enqueue's outcome was unknown, and the job was there."
    ended: int = 0
    "Jobs of which a run came to its end."
    complete: int = 0
    "Jobs that the queue calls complete."
    lost: dict[str, str] = field(default_factory=dict)
    "Acknowledged, and no run ever came to its end."
    stuck: dict[str, str] = field(default_factory=dict)
    "Not terminal (or gone) when patience was over."
    unexpected: dict[str, str] = field(default_factory=dict)
    "Ran, but nobody enqueued it; or refused, though nobody else had its key."
    changed: dict[str, str] = field(default_factory=dict)
    "Terminal, and different later."
    claimed_after_end: dict[str, str] = field(default_factory=dict)
    "A run was claimed after the job was terminal."
    began_after_end: dict[str, str] = field(default_factory=dict)
    "A run began after the job was terminal: claimed in time, its worker stood still before it began."
    wrong: dict[str, str] = field(default_factory=dict)
    "Terminal, but not what its runs say: every job of the battery can and must complete."
    twice: dict[str, str] = field(default_factory=dict)
    "More than one run came to its end."
    unexplained: dict[str, str] = field(default_factory=dict)
    "Those of them that were claimed again although the first run's lease had not ended."
    late: dict[str, str] = field(default_factory=dict)
    "Those of them whose first run came to its end after its lease (its worker stood still)."
    lost_by_rule: dict[str, str] = field(default_factory=dict)
    "Failed, as promised, when their third run was lost too; each loss after a lease that had ended."
    enqueued_twice: dict[str, str] = field(default_factory=dict)
    "A client that could not know enqueued it again when its first life was over: two lives, not two runs."
    of_several_clocks: int = 0
    "Batteries in which claims and ends have the time of workers whose clocks differ: not to be compared."
    back_s: float | None = None
    "From the end of the last fault until all were terminal."
    seconds: float = 0.0
    fired: dict[str, int] = field(default_factory=dict)
    most_losses: int = 0
    ended_by_themselves: int = 0
    "Workers that ended although nobody killed them."

    @property
    def sound(self) -> bool:
        """Whether each promise held; `twice` is within the promise."""
        return not any(
            (self.lost, self.stuck, self.unexpected, self.changed, self.claimed_after_end,
             self.wrong, self.unexplained)
        )  # fmt: skip


def judge(
    enqueuer: Enqueuer,
    reader: Reader,
    sampler: Sampler,
    *,
    lease_s: float,
    counts_losses: bool,
    one_clock: bool = True,
) -> Verdict:
    """The verdict on what was enqueued, what ran, and what the queue says of it.

    `one_clock`: whether the moments that the queue tells are of one clock.
    """
    verdict = Verdict(
        attempted=len(enqueuer.attempted),
        acknowledged=len(enqueuer.acknowledged),
        recovered=len(enqueuer.recovered),
        ended=len(reader.ended),
        of_several_clocks=int(not one_clock),
    )
    for key in reader.by_key:
        if key not in enqueuer.attempted:
            verdict.unexpected[key] = "ran, and nobody enqueued it"
    for key in enqueuer.refused:
        verdict.unexpected[key] = "refused, and nobody else had its key"
    for key, (first, later) in sampler.changed.items():
        verdict.changed[key] = f"was {_told(first)}, then {_told(later)}"
    for key in enqueuer.acknowledged:
        # By their claims: a worker that stood still in between begins late what it claimed early.
        runs = sorted(reader.by_key.get(key, []), key=lambda run: run.claimed_ms)
        record = sampler.latest.get(key)
        if record is not None:
            verdict.most_losses = max(verdict.most_losses, record.losses)
            verdict.complete += record.status == "complete"
        if record is not None and _lost_by_rule(record, runs, lease_s * 1000):
            verdict.lost_by_rule[key] = f"{_told(record)}; runs: {_runs(runs)}"
        else:
            _judge_end(verdict, key, runs, record)
        if one_clock:
            _judge_claims(verdict, key, runs, sampler.first.get(key))
        _judge_runs(verdict, key, runs, lease_s * 1000, counts_losses)
    return verdict


def _judge_end(verdict: Verdict, key: str, runs: list[Run], record: Record | None) -> None:
    ends = [run.name for run in runs if run.outcome == "end"]
    if not ends:
        verdict.lost[key] = f"{_told(record)}; runs: {_runs(runs)}"
    if record is None or not record.terminal:
        verdict.stuck[key] = f"{_told(record)}; runs: {_runs(runs)}"
        return
    if record.status != "complete" or record.result not in ends:
        verdict.wrong[key] = f"{_told(record)}; runs: {_runs(runs)}"


def _judge_claims(verdict: Verdict, key: str, runs: list[Run], first: Record | None) -> None:
    if first is None:
        return
    over_ms = first.completed_ms + SLACK_MS
    # A claim's moment is the queue's own, by one clock if it has one.
    for found, late in (
        (verdict.claimed_after_end, [run for run in runs if run.claimed_ms > over_ms]),
        (verdict.began_after_end, [run for run in runs if run.began_wall_ms > over_ms]),
    ):
        if late:
            found[key] = f"was {_told(first)}; then {_runs(late)}"


def _judge_runs(
    verdict: Verdict, key: str, runs: list[Run], lease_ms: float, counts_losses: bool
) -> None:
    ends = [run for run in runs if run.outcome == "end"]
    if len({run.queued_ms for run in ends}) > 1:
        verdict.enqueued_twice[key] = _runs(ends)
    for first, second in pairwise(ends):
        if first.queued_ms != second.queued_ms:
            continue
        # Whatever else may have happened: no claim within the lease of another one, and the queue
        # itself says that the first run was lost.
        said_so = second.losses > first.losses or not counts_losses
        verdict.twice[key] = _runs(ends)
        if not (said_so and _lease_over(first, second, lease_ms)):
            verdict.unexplained[key] = _runs(ends)
        if first.began_wall_ms + first.ended_ms - first.began_ms >= first.claimed_ms + lease_ms:
            verdict.late[key] = _runs(ends)


def _lost_by_rule(record: Record, runs: list[Run], lease_ms: float) -> bool:
    """Whether it failed for its losses, and each of them is one."""
    if record.status != "failed" or record.losses <= ALLOWED_LOSSES:
        return False
    claims = [(a, b) for a, b in pairwise(runs) if b.losses > a.losses]
    return all(_lease_over(first, second, lease_ms) for first, second in claims)


def _lease_over(first: Run, second: Run, lease_ms: float) -> bool:
    return second.claimed_ms - first.claimed_ms >= lease_ms - SLACK_MS


def _told(record: Record | None) -> str:
    if record is None:
        return "no record"
    said = f" ({record.error})" if record.error else ""
    return (
        f"{record.status}{said}, attempts {record.attempts}, losses {record.losses},"
        f" completed {record.completed_ms}, result {record.result}"
    )


def _runs(runs: Iterable[Run]) -> str:
    return ", ".join(
        f"{run.name} (attempt {run.attempt}, losses {run.losses}, claimed {run.claimed_ms},"
        f" began {run.began_ms}: {run.outcome or 'killed'})"
        for run in runs
    )
