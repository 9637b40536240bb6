"""What a run can reach by itself: the rare cases that the promises are about.

A run in which none of them came up has shown little. `simulation.reached` counts them, with a test's own.
"""

from __future__ import annotations

TWO_CLAIMED = "two workers claimed in one instant"
REPLY_LOST = "a reply was lost after execution"
SENT_TWICE = "a command was sent twice, and answered as once"
LEASE_LOST_IN_COMMIT = "a lease was lost during a commit"
LATE_WORKER = "a worker that had lost a job was refused"
KILLED_HOLDER = "a killed process held a job"
RECOVERED = "a job was lost and recovered"
LOST_TOO_OFTEN = "a job was lost too often, and failed"
ALONE = "a job ran alone"
RETRY_WHILE_AWAY = "a retry came due while its worker was away"
RETRIED = "a job was retried"
HANDED_BACK = "a worker handed a job back"
ABORTED_RUNNING = "a running job was aborted"
ABORT_RACED = "an abort raced an ending"
ABANDONED = "a task ignored its cancellation, and was left behind"
OVERLAP = "two runs of a job overlapped, by the rule"
GROUP_WAITED = "a job waited for another one of its group"
KEY_TAKEN = "an enqueue was refused, since its key was taken"
TICK_SEEN_TWICE = "a cron tick was seen by two workers"
UNKNOWN_FUNCTION = "a worker met a function that it does not know"

LABELS = tuple(
    value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)
)
"All of them."
