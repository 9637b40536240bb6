"""Mutants of the queue's Python side, and those of its scripts that are more than one word."""

from __future__ import annotations

from queuekit.job import Status
from queuekit.lifecycle import Event
from tests.mutants.mutant import Code, Mutant, Text, Value


def _code(name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, (Code(where, old, new),))


def _text(name: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, (Text(file, old, new),))


LEASES = [
    _code("leases are not renewed", "upkeep:renew_leases", "if not runs:", "if runs or not runs:"),
    _code("a lease is renewed once only", "session:Session.keep_leases", "or self._leases.done()", ""),
    _code("a run that is told that it is lost goes on", "upkeep:renew_leases", 'elif what == "lost":', "elif False:"),
    _code("an abort is heard with the next renewal only if nobody listens", "upkeep:renew_leases", 'if what == "aborting":', "if False:"),
    _code("a lost lease counts as renewed", "upkeep:renew_leases", 'if what != "lost":', "if True:"),
    _code("while Redis is away runs go on behind their lease", "upkeep:_give_up_expired", "run.lease_end <= now", "False"),
    _code("a process that hung goes on with what it has lost", "session:Session._guard_leases", "run.lease_end <= now", "False"),
    _code("a task is begun behind the end of its lease", "execution:Execution._check_ours", "self._interruption is None and environment().monotonic() >= self.lease_end", "False"),
    _code("a claim that was answered late counts from its answer", "intake:Intake._launch", "lease_end=asked_at + worker.lease_s - (now_ms - job.started) / 1000", "lease_end=environment().monotonic() + worker.lease_s"),
    _code("leases are renewed too late", "upkeep:renew_leases", "pause = worker.lease_s / 3\n    while", "pause = worker.lease_s * 1.5\n    while"),
    _code("a first renewal that fails is the last", "upkeep:renew_leases", "            pause = RETRY_S\n            continue", "            return"),
    _code("an old run of a job that came again here goes on", "intake:Intake._launch", "if run.job.key == job.key:", "if False:"),
]

RECOVERY = [
    _code("nobody recovers", "upkeep:after_claim", "claimed.lease_end_ms <= claimed.now_ms", "False"),
    _code("recovery is charged as a failure", "upkeep:_recovery", 'charge="losses"', 'charge="failures"'),
    _code("a loss is not charged", "upkeep:_recovery", 'charge="losses"', 'charge=""'),
    _code("recovery does not insist on the end of the lease", "upkeep:_recovery", "expired_only=True", "expired_only=False"),
    _code("a job that was lost twice does not run alone", "upkeep:_recovery", "solo=lifecycle.runs_alone(job.losses + 1)", "solo=False"),
    _code("a recovered job rests for no time", "upkeep:_recovery", "delay_ms=worker.queue.next_delay_ms(job, job.failures + job.losses + 1)", "delay_ms=0"),
    _code("losses are counted from this one", "upkeep:_after_loss", "losses = job.losses + 1", "losses = job.losses"),
    _code("a lost job whose abort was accepted runs again", "upkeep:_after_loss", "job.status is Status.ABORTING", "False"),
    _code("a recovered job is over", "upkeep:_after_loss", "    return target, text", "    return Status.FAILED, text"),
    _code("one lost job is recovered a look", "upkeep:recover", "await worker.queue.store.expired()", "(await worker.queue.store.expired())[:1]"),
    _code("a worker alone in its process takes others in", "intake:Intake.room", "or any(run.alone for run in worker.running.values())", ""),
    _code("a worker that makes room takes others in", "intake:Intake.room", "self.making_room or ", ""),
    _code("a worker that makes room never has made it", "intake:Intake.claim", "if self.making_room and not worker.running:", "if False:"),
    _code("making room charges the others", "execution:Execution._move", "released = outcome.event is Event.RELEASED", "released = False"),
    _code("room is made for nobody", "intake:Intake.claim", "if claimed.make_room and not self.making_room:", "if False:"),
    _code("a worker with jobs says that it is idle", "intake:Intake.claim", "idle=not worker.running", "idle=True"),
    _code("no worker says that it is idle", "intake:Intake.claim", "idle=not worker.running", "idle=False"),
]

BUDGET = [
    _code("a retry is counted twice", "execution:Execution._failed", "lifecycle.after_failure(RetryPolicy.of(job), job.failures + 1)", "lifecycle.after_failure(RetryPolicy.of(job), job.failures + 2)"),
    _code("a retry is not counted", "execution:Execution._failed", "lifecycle.after_failure(RetryPolicy.of(job), job.failures + 1)", "lifecycle.after_failure(RetryPolicy.of(job), job.failures)"),
    _code("a job is retried at once", "execution:Execution._failed", "delay = self._worker.queue.next_delay_ms(job, job.failures + job.losses + 1)", "delay = 0"),
    _code("the backoff begins at its second step", "execution:Execution._failed", "job.failures + job.losses + 1)", "job.failures + job.losses + 2)"),
    _code("a failure is not charged", "execution:Execution._move", '_CHARGES.get(outcome.event, "")', '""'),
    _code("a worker that stops charges its jobs", "execution:Execution._move", '_CHARGES.get(outcome.event, "")', '"failures"'),
    _code("one run more than retries allow", "lifecycle:after_failure", "failures < policy.retries", "failures <= policy.retries"),
    _code("after_failure is turned", "lifecycle:after_failure", "failures < policy.retries", "failures >= policy.retries"),
    _code("one loss less is allowed", "lifecycle:after_loss", "losses <= max_lost", "losses < max_lost"),
    _code("after_loss is turned", "lifecycle:after_loss", "losses <= max_lost", "losses > max_lost"),
    _code("jobs are lost without end", "lifecycle:after_loss", "losses <= max_lost", "True"),
    _code("jobs run alone one loss late", "lifecycle:runs_alone", "losses >= SOLO_AFTER", "losses > SOLO_AFTER"),
    _code("runs_alone is turned", "lifecycle:runs_alone", "losses >= SOLO_AFTER", "losses < SOLO_AFTER"),
    _code("the first unknown function is the last", "lifecycle:after_unknown", "tries <= UNKNOWN_TRIES", "tries > UNKNOWN_TRIES"),
    _code("unknown functions are put back without end", "lifecycle:after_unknown", "tries <= UNKNOWN_TRIES", "True"),
    _code("unknown functions are put back once more", "lifecycle:after_unknown", "tries <= UNKNOWN_TRIES", "tries <= UNKNOWN_TRIES + 1"),
    _code("unknown functions are put back for no time", "lifecycle:unknown_delay_ms", "return min(1000 << min(tries - 1, 6), 60_000)", "return 0"),
    _code("the backoff has no upper bound of the job's", "lifecycle:retry_delay_ms", "min(doubled, cap, MAX_RETRY_DELAY_MS)", "min(doubled, MAX_RETRY_DELAY_MS)"),
    _code("the backoff does not grow", "lifecycle:retry_delay_ms", "max(unsuccessful - 1, 0)", "0"),
    _code("a fixed delay grows", "lifecycle:retry_delay_ms", "if policy.backoff is False:", "if False:"),
]

LIMITS = [
    _code("a timeout does not end a run", "execution:Execution._time_left", "if job.timeout:", "if False:"),
    _code("a missed heartbeat does not end a run", "execution:Execution._time_left", "if job.heartbeat:", "if False:"),
    _code("a heartbeat is not heard", "held:update", "job.run.beat()", "pass"),
    _code("a heartbeat is counted from the start", "execution:Execution._time_left", "self._last_beat + job.heartbeat", "began + job.heartbeat"),
    _code("the later limit counts", "execution:Execution._time_left", "end, failure = min(", "end, failure = max("),
    _code("a task that is over its limit is not cancelled", "execution:Execution._end", "            inner.cancel()" if False else "inner.cancel()\n    deadline", "pass\n    deadline"),
    _code("a task that ignores its cancellation is waited for", "execution:Execution._end", "timeout=deadline", "timeout=None"),
    _code("an abandoned run is not counted", "execution:Execution._move", "abandoned=self._abandoned", "abandoned=False"),
    _code("hooks have the task's time limit", "execution:Execution._attempt", "limited=False", "limited=True"),
]

ENDS = [
    _code("an abort that raced the end is ignored", "execution:Execution._commit", 'if verdict == "aborting":', "if False:"),
    _code("a refused end counts as accepted", "execution:Execution._commit", 'if verdict in ("ok", "done"):', 'if verdict in ("ok", "done", "lost"):'),
    _code("a commit that Redis did not answer is given up", "execution:Execution._try_commit", "if environment().monotonic() + COMMIT_RETRY_S >= self.lease_end:", "if True:"),
    _code("a run that has ended itself is ended again", "execution:Execution._commit", "outcome.event is not Event.LOST and self.job.status is not Status.ACTIVE", "False"),
    _code("a worker that stops leaves its jobs running out", "worker:Worker._drain", 'run.interrupt(Event.RELEASED, "its worker shuts down")', "pass"),
    _code("a worker that stops cancels at once", "worker:Worker._drain", "if jobs and self.shutdown_grace_period_s and", "if False and"),
    _code("a stopped worker takes jobs", "worker:Worker._take_jobs", "while not session.stopping:", "while True:"),
    _code("a claim that was cut off by the stop is left", "intake:Intake.return_unanswered", "if not self._unanswered:", "if True:"),
    _code("a claim sent again is a new one", "intake:Intake._ask_for", "self._unanswered = True", "self._unanswered = True\n    self._claims_made += 1"),
    _code("all claims have one id", "intake:Intake._ask_for", "self._claims_made += 1", "pass"),
    _code("a job handed back goes to the end", "execution:Execution._move", "front=released", "front=False"),
    _code("an interruption that comes later wins", "execution:Execution.interrupt", "if self._interruption is None:", "if True:"),
    _code("an interruption is not heard", "execution:Execution.interrupt", "self._interrupted.set()", "pass"),
    _code("the result of a run is lost", "execution:Execution._move", "result=outcome.result", 'result=b""'),
    _code("the error of a run is lost", "execution:Execution._move", 'b"" if released else clip_error(outcome.error)', 'b""'),
    _code("a run's record is kept in the worker", "intake:Intake._run", "self._worker.running.pop(run.job.fence, None)", "pass"),
    _code("two sends of one enqueue are two", "entry:_record", "job.enqueue_id or environment().new_id()", "environment().new_id()"),
    _code("a job taken by another is told as ours", "entry:enqueue_all", 'if answer.verdict == "taken":', "if False:"),
    _code("a full queue says that it took the job", "entry:enqueue_all", 'if answer.verdict == "full":', "if False:"),
    _code("an update of a lost run is taken", "held:update", 'if verdict == "lost":', "if False:"),
    _code("a full script is not tried singly", "held:_commit", 'verdict not in ("ok", "done")', "False"),
]

WAITING = [
    _code("a wake-up is forgotten", "session:Session._hear", "        self.attention.set()" if False else "await worker.queue.store.pass_on()\n    self.attention.set()", "await worker.queue.store.pass_on()"),
    _code("a token that finds no slot is dropped", "session:Session._hear", "await worker.queue.store.pass_on()", "pass"),
    _code("nobody wakes when a job is due", "session:Session.wake_in", "if due_s is not None:", "if False:"),
    _code("nobody wakes for upkeep", "session:Session._call_for_upkeep", "self.attention.set()", "pass"),
    _code("upkeep is left alone as long as a worker may wait", "worker:Worker._bound", "bounds += [(moment - claimed.now_ms) / 1000 for moment in moments if moment is not None]", "pass"),
    _code("a worker waits before it looks", "worker:Worker._take_jobs", "session.attention.clear()", "await session.listen(for_work=True)\n        await session.attention.wait()\n        session.attention.clear()"),
    _code("a worker listens for work only once", "session:Session.listen", "if self.hears_work or not for_work:", "if True:"),
    _code("a worker does not listen for work", "worker:Worker._wait", "for_work=self.has_room()", "for_work=False"),
    _code("a full worker listens for work", "worker:Worker._wait", "for_work=self.has_room()", "for_work=True"),
    _code("a slot that gets free is not noticed", "intake:Intake._run", "or not self._session.hears_work", ""),
    _code("an abort of a running job is not heard", "session:Session._hear", 'message and message.startswith("abort\\n")', "False"),
    _code("an abort hits whatever run has the fence", "session:Session._hear", "and run.job.key == key", ""),
    _code("a worker takes one job more than its slots", "intake:Intake.room", "left = worker.concurrency - len(worker.running)", "left = worker.concurrency - len(worker.running) + 1"),
    _code("a worker takes no notice of its slots", "intake:Intake.room", "left = worker.concurrency - len(worker.running)", "left = worker.concurrency"),
    _code("results are waited for without hints or looks", "results:finishing", "if job is None or job.finished:", "if job is None:"),
    _code("a waiter takes an unfinished job for finished", "results:finishing", "if job is not None and job.finished:", "if job is not None:"),
    _code("a more that is due is left for the next wake-up", "worker:Worker._comes_again_at_once", "return self.has_room() and claimed.due_ms is not None and claimed.due_ms <= claimed.now_ms", "return False"),
]

CRON = [
    _text("a cron tick is claimed by two", "cron.lua", "if last >= tick or tick <= now - FORGET_MS then return { 'handled', now } end", ""),
    _text("a tick is handled before its moment", "cron.lua", "if tick > now then return { 'early', now } end", ""),
    _text("a worker of before a deploy ticks on", "cron.lua", "if timetable ~= ARGV[8] and until_ms >= now then return { 'replaced', now } end", ""),
    _text("an unfinished job of the last tick does not matter", "cron.lua", "busy = status and not terminal[status]", "busy = false"),
    _text("a tick's job overruns an unfinished one of its key", "cron.lua", "local taken = own and not terminal[own]", "local taken = false"),
    _code("a tick is late by a second", "ticks:tick", "await asyncio.sleep(pause)", "await asyncio.sleep(pause + 1)"),
    _code("a tick is early by a second", "ticks:tick", "if course.next_ms <= server.now_ms():", "if course.next_ms <= server.now_ms() + 1000:"),
    _code("every second tick is left out", "ticks:_handle_passed", "course.next_ms = passed.next_ms", "course.next_ms = schedule.next_tick_ms(passed.next_ms)"),
    _code("cron ends when Redis is away", "ticks:tick", "await _wait_for_redis(worker, error)", "return"),
    _code("a tick is handled by each worker under its own key", "ticks:_handle", "schedule.id,\n        tick_ms,", "schedule.id + worker.address,\n        tick_ms,"),
    _code("missed ticks are all made up for", "cron:Schedule.passed", "begin_ms = self.next_tick_ms(late_ms - 1) if missed else first_ms", "begin_ms = first_ms"),
]

ORDER = [
    _text("promoted before it is due", "claim.lua", "redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', exact(now), ", "redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', exact(now + 500), "),
    _text("a unique key is freed when its job is claimed", "enqueue.lua", "elseif status and not terminal[status] then", "elseif status and not terminal[status] and status ~= 'active' then"),
    _text("a unique key is free while its job waits for a retry", "enqueue.lua", "elseif status and not terminal[status] then", "elseif status and not terminal[status] and not stored[2] then"),
    _text("a unique key is never freed", "enqueue.lua", "elseif status and not terminal[status] then", "elseif status then"),
    _text("the first come is served last", "claim.lua", "local key = redis.call('ZPOPMIN', set)[1]", "local key = redis.call('ZPOPMAX', set)[1]"),
    _text("priorities are turned", "prelude.lua", "priority = tonumber(priority or 0) or 0\n", "priority = -(tonumber(priority or 0) or 0)\n"),
    _text("priorities are ignored", "prelude.lua", "priority = tonumber(priority or 0) or 0\n", "priority = 0\n"),
    _text("jobs of a group run beside each other", "prelude.lua", "  if group then\n    local first = redis.call('HGET', GROUPS, group)\n    if first and first ~= key then", "  if group then\n    local first = redis.call('HGET', GROUPS, group)\n    if false then"),
    _text("a commit is not known again when it is sent twice", "commit.lua", "held[4] == ending and 'done' or 'lost'", "'lost'"),
    _text("a lease that ended is answered as the late worker's own end", "commit.lua", "local ending = fence .. ':' .. claim .. (flag('e') and ':lost' or '')", "local ending = fence .. ':' .. claim"),
    _text("a claim sent twice is answered with nothing", "claim.lua", "if state and state[17] == claim and (state[1] == 'active' or state[1] == 'aborting') then", "if false then"),
    _text("a claim sent twice is a second one", "claim.lua", "if last and string.sub(last, 1, #claim + 1) == claim .. '\\n' then", "if false then"),
    _text("a record that is over is still read", "read.lua", "if over or not (call or (state and state[1])) then", "if not (call or (state and state[1])) then"),
    _text("an accepted abort is overridden by an end", "commit.lua", "elseif status == 'aborting' and target ~= 'aborted' then", "elseif false then"),
    _text("an abort of a waiting job leaves it where it is", "abort.lua", "    for _, container in ipairs({ READY, SCHEDULED, SUSPECT, LEASE }) do\n      if redis.call('ZREM', container, key) == 1 then break end\n    end", ""),
    _text("leases of a minute more", "claim.lua", "exact(now + ARGV[5])", "exact(now + ARGV[5] + 60000)"),
    _text("leases of a second less", "claim.lua", "exact(now + ARGV[5])", "exact(now + ARGV[5] - 1000)"),
    _text("renewals of nothing", "renew.lua", "exact(now + ARGV[2])", "exact(now)"),
    _text("a retry waits double", "commit.lua", "local due = now + ARGV[i + 4]", "local due = now + 2 * ARGV[i + 4]"),
    _text("the ttl of a record is forgotten", "prelude.lua", "local expires = now + (ttl < 0 and TOMBSTONE_MS or ttl)", "local expires = now"),
]


def _turned(event: Event, to: Status) -> Mutant:
    name = f"arrow {event.value} -> {to.value}"
    return Mutant(name, (Value("execution:TARGETS", to, event),), "arrow")


ARROWS = [
    _turned(Event.COMPLETED, Status.FAILED),
    _turned(Event.COMPLETED, Status.QUEUED),
    _turned(Event.FAILED, Status.COMPLETE),
    _turned(Event.FAILED, Status.QUEUED),
    _turned(Event.RETRIED, Status.FAILED),
    _turned(Event.RETRIED, Status.COMPLETE),
    _turned(Event.RELEASED, Status.FAILED),
    _turned(Event.RELEASED, Status.COMPLETE),
    _turned(Event.UNKNOWN, Status.FAILED),
    _turned(Event.ABORTED, Status.FAILED),
    _turned(Event.ABORTED, Status.QUEUED),
    _code("arrow active, lost -> aborted", "upkeep:_after_loss", "target = lifecycle.after_loss(losses, job.max_lost)", "target = Status.ABORTED"),
    _code("arrow aborting, lost -> failed", "upkeep:_after_loss", 'return Status.ABORTED, job.error or "aborted"', 'return Status.FAILED, job.error or "aborted"'),
    _code("arrow active, quarantined -> complete", "upkeep:set_aside", "Status.FAILED if held.state[0]", "Status.COMPLETE if held.state[0]"),
    _text("arrow queued, claimed: dropped", "claim.lua", "'status', 'active', 'attempts'", "'status', state[1] and 'queued' or 'active', 'attempts'"),
    _text("arrow queued, aborted -> failed", "abort.lua", "finish(key, 'aborted', tonumber(ARGV[4]), { 'error', reason })", "finish(key, 'failed', tonumber(ARGV[4]), { 'error', reason })"),
    _text("arrow queued, quarantined -> aborted", "prelude.lua", "finish(key, status or 'failed', QUARANTINE_MS", "finish(key, status or 'aborted', QUARANTINE_MS"),
    _text("arrow active, abort requested -> aborted", "abort.lua", "'status', 'aborting', 'error', reason", "'status', 'aborted', 'error', reason"),
    _text("arrow active, abort requested: dropped", "abort.lua", "'status', 'aborting', 'error', reason", "'error', reason"),
    _text("arrow new, enqueued: dropped", "prelude.lua", "  place(key, due, false, priority, group, nil)\n", "")
]

BY_HAND = [*LEASES, *RECOVERY, *BUDGET, *LIMITS, *ENDS, *WAITING, *CRON, *ORDER, *ARROWS]
