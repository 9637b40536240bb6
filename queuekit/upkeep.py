"""What a worker does beside running jobs: renew leases, recover lost jobs, tidy, tell.

None of it polls. Each duty has a moment at which it is due, told by the server with every claim, or
runs while there is something to keep up.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from queuekit import lifecycle
from queuekit.environment import background, environment
from queuekit.job import Job, Status
from queuekit.lifecycle import Event
from queuekit.store.redis import BATCH, STORE_ERRORS, Claimed, Held, Move
from queuekit.text import clip_error, gist, one_line, text_of

if TYPE_CHECKING:
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

RETRY_S = 0.5
"Before upkeep tries again what Redis refused or did not answer."

RECOVERY_ROUNDS = 10
"Batches of lost jobs that a worker moves before it looks at what else there is; then it goes on."

ALIVE_S = 60.0
"A worker that was not heard of for so long counts as gone (longer when it may wait longer)."


async def renew_leases(worker: Worker[Any]) -> None:
    """Prolong the leases of all running jobs, each third of a lease, as long as there are any.

    A run whose lease could not be renewed in time is ended by the session, which watches its end.
    """
    pause = worker.lease_s / 3
    while True:
        with background():
            await asyncio.sleep(pause)
        runs = list(worker.running.values())
        if not runs:
            worker.outage.over("renewing leases")  # there is nothing left to fail at
            return
        asked_at = environment().monotonic()
        proofs = [(run.key, run.fence, run.claim_id) for run in runs]
        try:
            news = await worker.queue.store.renew(proofs, round(worker.lease_s * 1000))
        except STORE_ERRORS as error:
            worker.outage.note("renewing leases", error)
            pause = RETRY_S
            continue
        worker.outage.over("renewing leases")
        pause = worker.lease_s / 3
        told = {fence: (what, reason) for fence, what, reason in news}
        for run in runs:
            what, reason = told.get(run.fence, ("", ""))
            if what != "lost":
                run.lease_end = asked_at + worker.lease_s
            if what == "aborting":
                run.interrupt(Event.ABORTED, reason)
            elif what == "lost":
                run.interrupt(Event.LOST, "its lease ended")


async def after_claim(worker: Worker[Any], claimed: Claimed) -> None:
    """The duties whose moment has come, as the last claim told."""
    if claimed.lease_end_ms is not None and claimed.lease_end_ms <= claimed.now_ms:
        await recover(worker)
    if claimed.record_end_ms is not None and claimed.record_end_ms <= claimed.now_ms:
        # One batch: if there are more, the next claim tells so, and jobs come in between.
        await worker.queue.store.expire()


async def recover(worker: Worker[Any]) -> int:
    """Move the jobs whose lease has ended: queued again, failed after too many losses, or aborted.

    Any number of workers may do this at once: each move is accepted once. How many were moved here.
    """
    moved = 0
    for _ in range(RECOVERY_ROUNDS):
        orphans = await worker.queue.store.expired()
        moves = [_recovery(worker, orphan) for orphan in orphans]
        verdicts = await worker.queue.store.commit(moves) if moves else []
        for move, (verdict, _) in zip(moves, verdicts, strict=True):
            if verdict == "ok":
                moved += 1
                await _tell_lost(worker, move)
        if len(orphans) < BATCH or not any(verdict == "ok" for verdict, _ in verdicts):
            break
    return moved


def _recovery(worker: Worker[Any], orphan: Held) -> Move:
    try:
        job = worker.queue.decode(orphan.key, orphan.call, orphan.state)
    except Exception as error:  # whatever a `load` raises: one bad record must not stop the others
        why = gist(text_of(error))
        logger.error("the record of job %r is set aside, unreadable: %s", orphan.key, why)  # noqa: TRY400
        return set_aside(orphan, error)
    target, text = _after_loss(job)
    return Move(
        orphan.key,
        orphan.fence,
        orphan.claim_id,
        target,
        delay_ms=worker.queue.next_delay_ms(job, job.failures + job.losses + 1),
        ttl_ms=job.ttl * 1000,
        charge="losses",
        expired_only=True,
        solo=lifecycle.runs_alone(job.losses + 1),
        outcome=Event.LOST.value,
        note=text,
        error=text.encode(),
    )


def set_aside(held: Held, error: Exception) -> Move:
    """The end of a job whose record cannot be read."""
    text = f"its record cannot be read: {text_of(error)}"
    return Move(
        held.key,
        held.fence,
        held.claim_id,
        Status.FAILED if held.state[0] != b"aborting" else Status.ABORTED,
        quarantine=True,
        outcome=Event.QUARANTINED.value,
        error=clip_error(text),
    )


def _after_loss(job: Job) -> tuple[Status, str]:
    if job.status is Status.ABORTING:
        return Status.ABORTED, job.error or "aborted"
    losses = job.losses + 1
    target = lifecycle.after_loss(losses, job.max_lost)
    text = f"worker {one_line(job.worker_id or '?')} lost it: the lease of attempt {job.attempts} ended"
    if target is Status.FAILED:
        text += f"; that was loss {losses}, and {job.max_lost} are allowed"
    return target, text


async def _tell_lost(worker: Worker[Any], move: Move) -> None:
    logger.warning("job %r was lost by its worker and is %s now", move.key, move.target)
    world = environment()
    if world.watched:
        await world.step(
            "lost",
            key=move.key,
            queue=worker.queue.name,
            target=move.target.value,
            delay_ms=move.delay_ms,
        )


async def tell_statistics(worker: Worker[Any]) -> None:
    """Write the worker's statistics when they have changed, at most once in a while."""
    while True:
        await worker.changed.wait()
        worker.changed.clear()
        await write_info(worker)
        with background():
            await asyncio.sleep(worker.timers.get("worker_info", 10))


async def write_info(worker: Worker[Any]) -> None:
    """Tell that the worker is there, and what it has done. Not worth dying for."""
    info = json.dumps(worker.info()).encode()
    try:
        await worker.queue.store.register(worker.address, alive_ms(), info)
    except STORE_ERRORS as error:
        # No word of an outage: those who need Redis speak of it. They are written when there is time again.
        logger.debug("statistics could not be written: %s", gist(text_of(error)))
        worker.changed.set()


def alive_ms() -> int:
    """How long the worker counts as alive after a word of it: until well after its next one."""
    return round(1000 * max(ALIVE_S, 2 * environment().idle_wait_s()))
