"""How jobs come into a worker: it claims as many as it has room for, and launches them.

A claim whose answer got lost is asked again under the same id, so that it strands nothing. A job that was
lost twice comes in alone: the worker that is asked to makes room for it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from queuekit import upkeep
from queuekit.environment import environment
from queuekit.execution import Execution
from queuekit.job import Status
from queuekit.lifecycle import Event
from queuekit.store.codec import runs_alone, unknown_tries
from queuekit.store.redis import STORE_ERRORS, Claimed, Held, Move
from queuekit.text import gist, text_of

if TYPE_CHECKING:
    from queuekit.session import Session
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

SLACK_S = 5.0
"""Beside the time that a worker gives its jobs to end, how long it may take to make room for a job that
must run alone, before another worker tries."""


class Intake:
    """The claims of one worker, from its start to its stop."""

    def __init__(self, worker: Worker[Any], session: Session) -> None:
        self.taken = 0
        "Jobs that came in."
        self.making_room = False
        "Whether a job waits that must run alone here: no other one comes in."
        self._worker = worker
        self._session = session
        self._claims_made = 0
        self._unanswered = False

    def room(self) -> int:
        """How many more jobs could start now."""
        worker = self._worker
        if self.making_room or any(run.alone for run in worker.running.values()):
            return 0
        left = worker.concurrency - len(worker.running)
        if worker.max_burst_jobs is not None and worker.burst:
            left = min(left, worker.max_burst_jobs - self.taken)
        return max(0, left)

    def _used_up(self) -> bool:
        """Whether no further job may come in, ever: in burst mode there can be a limit."""
        worker = self._worker
        return (
            worker.burst
            and worker.max_burst_jobs is not None
            and self.taken >= worker.max_burst_jobs
        )

    async def claim(self) -> Claimed | None:
        """Take in what there is room for; without any, only ask for the moments at which upkeep is due.

        None: there was neither room nor reason to ask.
        """
        worker, session = self._worker, self._session
        if self.making_room and not worker.running:
            self.making_room = False
        room = self.room()
        if not room:
            # Not where it is heard: the last slot may be taken by a claim that is under way then.
            await session.give_token_back()
            if not session.upkeep_due:
                return None
        session.upkeep_due = session.has_token = False
        asked_at = environment().monotonic()
        claimed = await self._ask_for(room, idle=room > 0 and not worker.running)
        for held in claimed.jobs:
            await self._launch(held, asked_at, claimed.now_ms)
        if claimed.make_room and not self.making_room:
            self.making_room = True
            session.spawn(self._make_room(), "making room")
        return claimed

    async def _ask_for(self, jobs: int, *, idle: bool = False) -> Claimed:
        worker = self._worker
        # The same id as long as there was no answer: a claim whose reply got lost is not a second one.
        claim_id = f"{worker.address}.{self._claims_made}"
        self._unanswered = True
        room_s = worker.solo_wait_s + worker.cancellation_hard_deadline_s + SLACK_S
        if self._session.stopping or self._used_up():
            room_s = 0
        claimed = await worker.queue.store.claim(
            worker.address,
            claim_id,
            jobs,
            round(worker.lease_s * 1000),
            upkeep.alive_ms(),
            idle=idle,
            room_ms=round(room_s * 1000),
        )
        self._unanswered = False
        self._claims_made += 1
        return claimed

    async def return_unanswered(self) -> None:
        """Hand back the jobs of a claim that was cut off before its answer was here."""
        if not self._unanswered:
            return
        with contextlib.suppress(*STORE_ERRORS):  # then their leases end, and they are recovered
            held = (await self._ask_for(0)).jobs
            moves = [
                Move(h.key, h.fence, h.claim_id, Status.QUEUED, front=True, outcome=Event.RELEASED)
                for h in held
            ]
            await self._worker.queue.store.commit(moves)

    async def _launch(self, held: Held, asked_at: float, now_ms: int) -> None:
        worker, session = self._worker, self._session
        self.taken += 1
        try:
            job = worker.queue.decode(held.key, held.call, held.state)
            previous = worker.queue.codec.decode_failure(held.state)
            tries = unknown_tries(held.state)
        except (
            Exception
        ) as error:  # whatever a `load` raises: the job is set aside, the others go on
            # No traceback: what a record says in it would have lines of its own in the log.
            why = gist(text_of(error))
            logger.error("the record of job %r is set aside, unreadable: %s", held.key, why)  # noqa: TRY400
            await self._set_aside(held, error)
            return
        job.fence, job.claim_id = held.fence, held.claim_id
        for run in worker.running.values():
            if run.key == job.key:  # it lost its lease, and is the last to learn of it
                run.interrupt(Event.LOST, "its lease ended")
        run = worker.running[held.fence] = Execution(
            worker,
            job,
            previous,
            # By the server's clock the claim may be older than this answer, whose first was lost.
            lease_end=asked_at + worker.lease_s - (now_ms - job.started) / 1000,
            unknown_tries=tries,
            alone=runs_alone(held.state),
        )
        session.spawn(self._run(run), f"job {job.key}")
        session.keep_leases(worker)

    async def _set_aside(self, held: Held, error: Exception) -> None:
        # If Redis is away now, whoever recovers the job meets the same record, and sets it aside.
        with contextlib.suppress(*STORE_ERRORS):
            await self._worker.queue.store.commit([upkeep.set_aside(held, error)])

    async def _run(self, run: Execution) -> None:
        try:
            await run.run()
        finally:
            self._worker.running.pop(run.fence, None)
            if self._worker.burst or self.making_room or not self._session.hears_work:
                self._session.attention.set()

    async def _make_room(self) -> None:
        """Let the jobs that run end; hand back those that do not."""
        worker = self._worker
        logger.info("worker %s makes room for a job that must run alone", worker.id)
        if jobs := self._session.jobs():
            await asyncio.wait(jobs, timeout=worker.solo_wait_s)
        for run in list(worker.running.values()):
            run.interrupt(Event.RELEASED, "its worker makes room for a job that must run alone")
        self._session.attention.set()
