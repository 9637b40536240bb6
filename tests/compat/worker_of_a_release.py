"""A worker of whichever queuekit its Python has: started by test_two_releases.py, with public names only.

It must run on every release that may meet the next one, so it imports nothing of tests and nothing that is
not promised.
"""

import asyncio
import sys

from queuekit import Queue, Worker


async def echo(ctx, **arguments):
    job = ctx["job"]
    await job.update(progress=0.5, meta={"by": ctx["worker"].id})
    if job.attempts <= arguments.get("fail", 0):
        raise ValueError("not yet")
    return {"by": ctx["worker"].id, "previous": ctx["exception"] and ctx["exception"].type_name}


async def started(ctx):
    sys.stdout.write("started\n")
    sys.stdout.flush()


async def main(url, name):
    queue = Queue.from_url(url)
    worker = Worker(queue=queue, functions=[echo], id=name, concurrency=2, startup=started)
    await worker.start()
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
