"""What each script does to a job, held against what the ledger knows of it.

A handler gets the arguments that the server was given and the answer that it gave; it says what is wrong,
enters the move, and gives back the jobs whose client hears of them with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from queuekit.exploration import budget, labels, order
from queuekit.exploration.budget import End
from queuekit.exploration.ledger import HELD, QUARANTINE_MS, Ledger, Life, Run
from queuekit.simulation.process import Process

Handler = Callable[[Ledger, list[str], list[bytes], Any, Process | None], Sequence[Life]]
"Ledger, arguments as text, the same as bytes, answer, the process that asked."

NOBODY: Sequence[Life] = ()


def rows(arguments: list[Any], width: int) -> Iterator[list[Any]]:
    """The arguments of each job."""
    for at in range(0, len(arguments), width):
        yield arguments[at : at + width]


def text(raw: Any) -> str:
    return raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else str(raw or "")


def enqueue(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    heard = []
    jobs = zip(rows(words[1:], 7), rows(raw[1:], 7), answer, strict=True)
    for (key, enqueue_id, _, due, delay, priority, group), written, (verdict, *_) in jobs:
        known, life = ledger.by_id.get(enqueue_id), ledger.lives.get(key)
        if verdict == b"new":
            if known is not None and (not known.over or ledger.now_ms < known.known_until_ms):
                ledger.breach("P7", key, "one enqueue that was sent twice was accepted twice")
            due_ms = max(int(due), ledger.now_ms + int(delay) if int(delay) > 0 else 0)
            life = ledger.begin(key, enqueue_id, written[2], due_ms, group, int(priority or 0))
            heard.append(life)
        elif verdict == b"same" and known is None:
            ledger.breach("P1", key, "an enqueue was answered as known that was never accepted")
        elif verdict == b"same" and known is not None:
            ledger.reach(labels.SENT_TWICE)
            heard.append(known)
        elif verdict == b"taken":
            ledger.reach(labels.KEY_TAKEN)
            if known is not None and known is life:
                ledger.breach("P7", key, "an enqueue that was sent twice was refused for itself")
            if life is None or life.over:
                found = f"that job is {life.status}" if life else "there is none"
                ledger.breach("P7", key, f"was refused for the job that has its key, and {found}")
    return heard


def claim(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    worker, claim_id, lease_ms = words[0], words[1], int(words[3])
    jobs = answer[5]
    ledger.workers[worker] = process
    ledger.there.spoke(worker, ledger.now_ms + int(words[4]))
    if ledger.claims.get(worker) == claim_id:
        _claimed_again(ledger, claim_id, [text(job[0]) for job in jobs])
        return NOBODY
    if jobs:  # one that got nothing may be sent again, and gets what there is then
        ledger.claims[worker] = claim_id
    at_ms, other, got = ledger.last_claim
    if at_ms == ledger.now_ms and other != worker and (got or jobs):
        ledger.reach(labels.TWO_CLAIMED)
    ledger.last_claim = (ledger.now_ms, worker, bool(jobs))
    if answer[4] == b"1":
        _makes_room(ledger, worker, int(words[6]))
    for raw_key, fence, _, state in jobs:
        key = text(raw_key)
        life = ledger.lives.get(key)
        if life is None:
            ledger.breach("P2", key, f"was given to {worker}, and nobody has enqueued it")
            life = ledger.lives[key] = Life(key, b"", 0, "", "queued")
        _check_claim(ledger, life, worker, fence)
        order.check(ledger, life, worker)
        end_ms = ledger.now_ms + lease_ms
        run = Run(fence, worker, process, lease_end_ms=end_ms, claimed_ms=ledger.now_ms)
        run.lease_over_ns = ledger.now_ns + lease_ms * 1_000_000
        _reach_by_claim(ledger, life)
        ledger.take(life, run, claim_id)
        _check_counters(ledger, life, state)
    return NOBODY


def _claimed_again(ledger: Ledger, claim_id: str, answered: list[str]) -> None:
    ledger.reach(labels.SENT_TWICE)
    lives = [life for life in ledger.held.values() if life.claim == claim_id]
    for life in lives:  # how long its lease lasts is told anew, by the server's clock
        if life.run is not None:
            left_ms = life.lease_end_ms - ledger.now_ms
            life.run.lease_over_ns = ledger.now_ns + left_ms * 1_000_000
    held = {life.key for life in lives}
    for key in sorted(held.difference(answered)):
        ledger.breach("P1", key, "is held by a claim, and that claim's second answer leaves it out")
    for key in sorted(set(answered) - held):
        ledger.breach("P2", key, "was given to a claim that does not hold it")


def _check_claim(ledger: Ledger, life: Life, worker: str, fence: int) -> None:
    key, now_ms = life.key, ledger.now_ms
    if life.over:
        ledger.breach("P3", key, f"was given to {worker} after it was {life.status}")
    elif life.status in HELD:
        left = (life.lease_end_ms - now_ms) / 1000
        what = f"was given to {worker} while {life.worker} holds it, for {left:g} s more"
        ledger.breach("P2", key, what)
    elif now_ms < life.due_ms and not life.was_due:
        early = (life.due_ms - now_ms) / 1000
        ledger.breach("P5", key, f"was given to {worker} {early:g} s before its time")
    if fence <= ledger.top_fence:
        what = f"was given out under fence {fence}, and {ledger.top_fence} was given before"
        ledger.breach("P3", key, what)
    if life.solo:
        ledger.makes_room = ("", 0)
        _check_only_one_alone(ledger, life.key, f"was given to {worker}")
    others = ledger.groups.get(life.group, {}) if life.group else {}
    for other in others:
        if other != key:
            ledger.breach("P2", key, f"was given to {worker} while {other!r} of its group runs")


def _makes_room(ledger: Ledger, worker: str, room_ms: int) -> None:
    """One worker at a time makes room for a job that must run alone; the others go on with their work."""
    other, until_ms = ledger.makes_room
    if other not in ("", worker) and ledger.now_ms < until_ms:
        what = f"{worker} is to make room for a job that must run alone, as {other} does already"
        ledger.breach("P4", "", what)
    _check_only_one_alone(ledger, "", f"{worker} is to make room for a job that must run alone")
    ledger.makes_room = (worker, ledger.now_ms + room_ms)


def _check_only_one_alone(ledger: Ledger, key: str, what: str) -> None:
    for other in ledger.held.values():
        if other.solo and other.key != key:
            ledger.breach("P4", key, f"{what} while {other.key!r} runs, which runs alone, too")


def _check_counters(ledger: Ledger, life: Life, state: Any) -> None:
    """What the job is told of its own past."""
    told = {"attempts": state[1], "failures": state[2], "losses": state[3], "unknown": state[20]}
    for name, value in told.items():
        counted = getattr(life, name)
        if text(value or b"0") != str(counted):
            what = f"is told of {text(value) or 0} {name}, and there were {counted}"
            ledger.breach("P4", life.key, what)


def _reach_by_claim(ledger: Ledger, life: Life) -> None:
    if life.solo:
        ledger.reach(labels.ALONE)
    if ledger.group_free_ms.get(life.group, -1) > max(life.entered_ms, life.due_ms):
        ledger.reach(labels.GROUP_WAITED)
    if life.retried_by is not None and not life.retried_by.alive:
        ledger.reach(labels.RETRY_WHILE_AWAY)


def renew(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    news = {int(fence): text(what) for fence, what, _ in answer}
    for key, fence, claim_id in rows(words[1:], 3):
        life, told = ledger.lives.get(key), news.get(int(fence), "")
        holds = life is not None and life.holds(int(fence), claim_id)
        if life is None or not holds:
            if told != "lost":
                ledger.breach("P3", key, f"its lease was renewed for fence {fence}, which lost it")
            ledger.reach(labels.LATE_WORKER)
            run = life.run_of(int(fence)) if life is not None else None
            if run is not None and run.told_lost_ns is None:
                run.told_lost_ns = ledger.now_ns
            continue
        if told == "lost":
            ledger.breach(
                "P2", key, f"fence {fence} was told that it is lost, and it holds the job"
            )
            continue
        if (told == "aborting") != (life.status == "aborting"):
            ledger.breach(
                "P3", key, f"is {life.status}, and its worker is told {told or 'nothing'}"
            )
        life.lease_end_ms = ledger.now_ms + int(words[0])
        if life.run is not None:
            life.run.lease_end_ms = life.lease_end_ms
            life.run.lease_over_ns = ledger.now_ns + int(words[0]) * 1_000_000
    return NOBODY


def commit(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    for row, written, (verdict, word) in zip(rows(words, 13), rows(raw, 13), answer, strict=True):
        key, fence, claim_id, target, delay, ttl, charge, flags, *_ = row
        end = End(int(fence), claim_id, target, int(delay), int(ttl), charge, flags, written[10])
        life = ledger.lives.get(key)
        if life is None:
            if verdict == b"ok":
                ledger.breach("P3", key, f"was made {target}, and nobody has enqueued it")
        elif verdict == b"ok":
            _ended(ledger, life, end, process)
        else:
            _refused(ledger, life, end, text(verdict), text(word))
    return NOBODY


def _ended(ledger: Ledger, life: Life, end: End, process: Process | None) -> None:
    key, run = life.key, life.run_of(end.fence)
    if life.over:
        ledger.breach("P3", key, f"was made {end.target} after it was {life.status}")
    elif not life.holds(end.fence, end.claim):
        what = f"was made {end.target} by fence {end.fence}, and fence {life.fence} has it"
        ledger.breach("P3", key, f"{what} ({life.status})")
    elif end.lost and ledger.now_ms < life.lease_end_ms:
        left = (life.lease_end_ms - ledger.now_ms) / 1000
        ledger.breach("P2", key, f"was taken from {life.worker} {left:g} s before its lease ended")
    if life.status == "aborting" and end.target != "aborted":
        ledger.breach("P3", key, f"was made {end.target} after its abort was acknowledged")
    elif life.status == "active" and end.target == "aborted":
        ledger.breach("P3", key, "was made aborted, and nobody has asked for that")
    if end.lost and run is not None and ledger.has_lived_well(run.worker, run.steady_claimed_ms):
        what = f"was lost by {run.worker}, which runs, and nothing has disturbed it since its claim"
        ledger.breach("P4", key, what)
    budget.check(ledger, life, run, end)
    _reach_by_end(ledger, life, end)
    life.ended = (end.fence, end.claim, end.lost)
    if run is not None:
        run.let_go = "lost" if end.lost else end.target
    if end.charge in ("failures", "losses", "unknown"):
        setattr(life, end.charge, getattr(life, end.charge) + 1)
    if end.target == "queued":
        ledger.queue_again(life, ledger.now_ms + end.delay_ms, in_front="f" in end.flags)
        life.retried_by = process if end.delay_ms and not end.lost else None
    else:
        life.result = end.result or None
        ledger.finish(life, end.target, QUARANTINE_MS if "q" in end.flags else end.ttl_ms)


def _reach_by_end(ledger: Ledger, life: Life, end: End) -> None:
    if end.lost:
        ledger.reach(labels.LOST_TOO_OFTEN if end.target == "failed" else labels.RECOVERED)
    elif end.target == "queued":
        by_charge = {"failures": labels.RETRIED, "unknown": labels.UNKNOWN_FUNCTION}
        ledger.reach(by_charge.get(end.charge, labels.HANDED_BACK))
    elif end.target == "aborted":
        ledger.reach(labels.ABORTED_RUNNING)


def _refused(ledger: Ledger, life: Life, end: End, verdict: str, word: str) -> None:
    key, holds = life.key, life.holds(end.fence, end.claim)
    if verdict == "done":
        ledger.reach(labels.SENT_TWICE)
        if life.ended != (end.fence, end.claim, end.lost) and not life.inherited:
            ledger.breach("P3", key, f"{end.target} was answered as done, and it never was")
    elif verdict == "aborting":
        ledger.reach(labels.ABORT_RACED)
        if not holds or life.status != "aborting":
            ledger.breach("P3", key, f"is {life.status}, and its worker is told of an abort")
    elif holds and not end.lost and end.target != "aborted":
        what = f"was to be made {end.target} by its worker, which holds it, and was refused"
        ledger.breach("P2", key, f"{what} ({word})")
    elif holds and end.lost and ledger.now_ms >= life.lease_end_ms:
        ledger.breach("P1", key, f"its lease is over, and it could not be recovered ({word})")
    elif not holds and life.ended == (end.fence, end.claim, end.lost) and word != "missing":
        what = f"its end as {end.target} was accepted before, and is refused when it is sent again"
        ledger.breach("P3", key, f"{what} ({word})")
    elif not holds and not end.lost:
        run = life.run_of(end.fence)
        ledger.reach(labels.LATE_WORKER)
        if run is not None and run.let_go == "lost":
            ledger.reach(labels.LEASE_LOST_IN_COMMIT)


def abort(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    key, ttl_ms, abort_id, verdict = words[0], int(words[2]), words[3], text(answer)
    life = ledger.lives.get(key)
    if life is None:
        if verdict != "missing":
            ledger.breach("P3", key, f"an abort found it {verdict}, and there is no such job")
        return NOBODY
    if life.over:
        again = verdict == "aborted" == life.status and abort_id == life.abort_id
        if verdict in ("aborted", "aborting") and not again:
            ledger.breach("P3", key, f"was made {verdict} after it was {life.status}")
        run = life.run
        if run is not None and run.let_go and life.ended is not None:
            ledger.reach(labels.ABORT_RACED)
        return NOBODY
    if verdict == "missing":
        ledger.breach("P1", key, f"an abort did not find it, and it is {life.status}")
    elif verdict.startswith("final"):
        ledger.breach("P3", key, f"an abort found it {verdict[6:]}, and it is {life.status}")
    elif verdict == "aborted":
        if life.status != "queued":
            ledger.breach("P3", key, f"was aborted at once, and it is {life.status}")
        ledger.finish(life, "aborted", ttl_ms)
        life.abort_id = abort_id
    elif life.status in HELD:
        if life.run is not None and life.run.outcome:
            ledger.reach(labels.ABORT_RACED)
        life.status = "aborting"
        life.abort_id = abort_id
    return [life]


def update(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    key, fence, claim_id, verdict = words[0], words[1], words[2], text(answer[0])
    life = ledger.lives.get(key)
    if life is None:
        return NOBODY
    holds = bool(fence) and life.holds(int(fence), claim_id)
    if verdict == "ok" and fence and not holds:
        ledger.breach("P3", key, f"was updated by fence {fence}, which had lost it")
    elif verdict == "ok" and life.over:
        ledger.breach("P3", key, f"was updated after it was {life.status}")
    elif verdict == "lost" and holds:
        ledger.breach("P2", key, f"fence {fence} was told that it is lost, and it holds the job")
    elif verdict == "lost":
        ledger.reach(labels.LATE_WORKER)
    elif verdict == "missing" and not life.over:
        ledger.breach("P1", key, f"an update did not find it, and it is {life.status}")
    return NOBODY


def cron(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    schedule, tick, unique, key, enqueue_id, _, _, worker = words
    verdict, at = text(answer[0]), (schedule, int(tick))
    first = ledger.ticks.setdefault(at, worker) if verdict != "early" else worker
    if first != worker:
        ledger.reach(labels.TICK_SEEN_TWICE)
    if verdict == "overlap":
        ledger.handled_ms.setdefault(at, ledger.now_ms)
        before = ledger.lives.get(ledger.last_ticks.get(schedule, ""))
        if before is not None and before.over:
            what = f"tick {tick} of {schedule!r} was passed over, and the job of the last one has ended"
            ledger.breach("P8", before.key, what)
    elif verdict == "handled" and key in ledger.lives and at not in ledger.tick_jobs:
        ledger.handled_ms.setdefault(at, ledger.now_ms)  # somebody has a job of that key
    if verdict != "enqueued":
        return NOBODY
    if at in ledger.tick_jobs:
        ledger.breach("P8", key, f"tick {tick} of {schedule!r} was enqueued before")
    if ledger.now_ms < at[1]:
        early = (at[1] - ledger.now_ms) / 1000
        ledger.breach("P8", key, f"tick {tick} of {schedule!r} was enqueued {early:g} s early")
    before = ledger.lives.get(ledger.last_ticks.get(schedule, ""))
    if unique == "1" and before is not None and not before.over:
        what = f"tick {tick} of {schedule!r} was enqueued while the job of the last one is {before.status}"
        ledger.breach("P8", key, what)
    ledger.handled_ms.setdefault(at, ledger.now_ms)
    ledger.tick_jobs[at] = ledger.last_ticks[schedule] = key
    return [ledger.begin(key, enqueue_id, raw[5], 0, "")]


def restore(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    life = ledger.lives.get(words[0])
    if text(answer) != "restored" or words[1] in ledger.by_id:
        return NOBODY
    payload, group, priority = b"", "", 0
    if life is not None:
        payload, group, priority = life.payload, life.group, life.priority
    return [ledger.begin(words[0], words[1], payload, 0, group, priority)]


def discard(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    life = ledger.lives.get(words[0])
    if answer and life is not None:
        if not life.over:
            ledger.breach("P1", life.key, f"was discarded, and it is {life.status}")
        del ledger.lives[words[0]]
    return NOBODY


def read(
    ledger: Ledger, words: list[str], raw: list[bytes], answer: Any, process: Process | None
) -> Sequence[Life]:
    for key, found in zip(words, answer, strict=True):
        life = ledger.lives.get(key)
        if life is None or ledger.now_ms >= life.ends_ms:
            continue
        state = (found or [None, None])[1]
        shown = text(state[0]) if state and state[0] else "queued" if found else "not there"
        if shown != life.status:
            promise = "P3" if life.over and found else "P1"
            ledger.breach(promise, key, f"is shown as {shown}, and it is {life.status}")
    return NOBODY


HANDLERS: dict[str, Handler] = {
    "abort": abort,
    "claim": claim,
    "commit": commit,
    "cron": cron,
    "discard": discard,
    "enqueue": enqueue,
    "read": read,
    "renew": renew,
    "restore": restore,
    "update": update,
}
"By the name of the script."
