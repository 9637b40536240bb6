"""What a web process of the stories does, and goes on doing while Redis is away."""

from __future__ import annotations

import asyncio

from queuekit import Job
from queuekit.job import TERMINAL_STATUSES
from tests.mutants.tasks import insist


def calm(simulation):
    """Whether nothing has gone wrong in the world so far, but by the story itself."""
    return not simulation.faults.struck


def job_of(function, **options):
    names = set(Job.__dataclass_fields__)
    own = {name: value for name, value in options.items() if name in names}
    kwargs = {name: value for name, value in options.items() if name not in names}
    return Job(function=function, kwargs=kwargs, **own)


async def put(queue, function, **options):
    """The job, once it is acknowledged; None when its key is taken."""
    return await insist(queue.enqueue, job_of(function, **options))


async def bring(queue, function, **options):
    """The job, of a key that nobody else uses: so it is accepted, whatever happens on the way."""
    job = await put(queue, function, **options)
    assert job is not None, f"{options['key']!r} was refused, since it is taken; nobody else has it"
    return job


async def seen(queue, key):
    return await insist(queue.job, key)


async def ended(queue, *keys):
    """The jobs, once they have ended."""
    while True:
        jobs = await insist(queue.jobs, keys)
        if all(job is not None and job.status in TERMINAL_STATUSES for job in jobs):
            return jobs
        await asyncio.sleep(1)
