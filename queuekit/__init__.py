"""queuekit: a job queue on Redis, and a world in which its jobs are tested.

The floors; each imports only those below it:

    6  cli, __main__
    5  exploration/                    searches simulations, and checks the promises after each
    4  simulation/                     virtual time, simulated network, traces
    3  worker, execution, upkeep       running jobs; ticks: cron
       queue, sync, registry           the queue as applications see it
    2  store/                          the only place that knows Redis
    1  lifecycle, cron, options        rules: values in, values out
       outage                          Redis is away: pauses, and who says so
    0  environment, types, errors, text, zones, job
"""

from queuekit.environment import effect as effect
from queuekit.job import CronJob as CronJob
from queuekit.job import Job as Job
from queuekit.job import JobError as JobError
from queuekit.job import Status as Status
from queuekit.queue import Queue as Queue
from queuekit.types import Context as Context
from queuekit.worker import Worker as Worker

__all__ = ["Context", "CronJob", "Job", "JobError", "Queue", "Status", "Worker", "effect"]

__version__ = "0.1.0"
