"""What a run may do to the job that it holds: tell of its progress, end it, put it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit import lifecycle
from queuekit.errors import (
    InvalidOptionError,
    InvalidOptionTypeError,
    LeaseLostError,
    ServerError,
    ServerRefusedError,
)
from queuekit.history import note_of
from queuekit.job import TERMINAL_STATUSES, Job, Status
from queuekit.lifecycle import Event
from queuekit.options import check_mapping, check_number, check_text
from queuekit.outage import Backoff
from queuekit.store.redis import Move
from queuekit.text import clip_error

if TYPE_CHECKING:
    from queuekit.queue import Queue

T = TypeVar("T")

RIGHTS = frozenset({"NOPERM", "NOAUTH", "WRONGPASS"})
"Refusals that do not pass by themselves."

_EVENTS = {
    Status.COMPLETE: Event.COMPLETED,
    Status.FAILED: Event.FAILED,
    Status.QUEUED: Event.RETRIED,
    Status.ABORTED: Event.ABORTED,
}
"What a run that ends itself does to its job."


async def update(queue: Queue, job: Job, fields: Mapping[str, Any]) -> None:
    """See `Queue.update`."""
    unknown = set(fields) - {"progress", "meta"}
    if unknown:
        raise InvalidOptionTypeError(
            f"{', '.join(sorted(unknown))} cannot be updated.\n"
            "  What a run may store is progress= and meta=; a status changes by its moves.\n"
            "  Call update(progress=0.5, meta={...}); abort(), finish() and retry() are the moves."
        )
    progress, meta = "", b""
    if "progress" in fields:
        progress = repr(float(check_number("progress", fields["progress"], 0, 1)))
    if "meta" in fields:
        check_mapping("meta", fields["meta"])
        meta = queue.codec.encode_value("meta", job.key, fields["meta"])
    for name, value in fields.items():
        setattr(job, name, value)
    if job.run is not None:
        job.run.beat()  # it is alive, whatever becomes of the news
    verdict, status, touched = await _insist(
        job, queue.store.update, job.key, job.fence, job.claim_id, progress, meta
    )
    if verdict == "missing":
        raise lifecycle.missing(job)
    if verdict == "lost":
        raise LeaseLostError(
            f"this run no longer holds job {job.key!r}, which is {status}: it can change nothing.\n"
            "  Its worker did not renew the lease in time, so the job went on without it.\n"
            "  Stop working; what was done must be safe to be done again."
        )
    if verdict == "final":
        raise lifecycle.refusal(job.key, Status(status), "updated")
    job.touched = touched
    await queue.show("updated", job, progress=job.progress)


async def _insist(job: Job, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Its answer; a run waits for a Redis that is away as long as its lease may hold.

    A task that tells of its progress must not fail since nobody could hear it.
    """
    pauses = Backoff()
    while True:
        try:
            return await call(*arguments)
        except ServerError as error:
            final = isinstance(error, ServerRefusedError) and error.code in RIGHTS
            if job.run is None or final or not job.run.holds():
                raise
            await asyncio.sleep(pauses.next_s())


async def finish(queue: Queue, job: Job, status: Status, result: Any, error: str | None) -> None:
    """See `Queue.finish`."""
    if status not in TERMINAL_STATUSES:
        raise InvalidOptionError(
            f"status={status!r} is no end.\n"
            "  A job finishes complete, failed or aborted.\n"
            "  Pass one of these, or call retry() to run the job again."
        )
    status = Status(status)
    if error is not None:
        check_text("error", error, "Say what went wrong, or leave it out.")
    written = b"" if result is None else queue.codec.encode_value("result", job.key, result)
    if status is Status.ABORTED:
        await queue.abort(job, error or "aborted")
    await _commit(
        queue,
        job,
        _move(
            job,
            status,
            ttl_ms=job.ttl * 1000,
            charge="failures" if status is Status.FAILED else "",
            result=written,
            error=clip_error(error or ""),
        ),
    )
    job.result, job.error = result, error


async def retry(queue: Queue, job: Job, error: str | None) -> None:
    """See `Queue.retry`."""
    if error is not None:
        check_text("error", error, "Say why it is to run again, or pass None.")
    await _commit(
        queue,
        job,
        _move(
            job,
            Status.QUEUED,
            delay_ms=queue.next_delay_ms(job, job.failures + job.losses + 1),
            charge="failures",
            error=clip_error(error or ""),
            note=note_of(error or ""),
        ),
    )


def _move(job: Job, target: Status, **details: Any) -> Move:
    outcome = _EVENTS[target].value
    return Move(job.key, job.fence, job.claim_id, target, outcome=outcome, **details)


async def _commit(queue: Queue, job: Job, move: Move) -> None:
    [(verdict, word)] = await _insist(job, queue.store.commit, [move])
    if verdict not in ("ok", "done"):
        raise LeaseLostError(
            f"job {job.key!r} cannot be made {move.target} from here: found {verdict} ({word}).\n"
            "  Only the run that holds a job can end it.\n"
            "  From elsewhere, abort() stops a job."
        )
    job.status = move.target
    if job.run is not None:
        job.run.settle()
    result = queue.codec.decode_value("result", job.key, move.result) if move.result else None
    await queue.show(
        "committed",
        job,
        event=move.outcome,
        attempt=job.attempts,
        delay_ms=move.delay_ms,
        error=move.error.decode(),
        result=result,
    )
