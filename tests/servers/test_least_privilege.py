"""The ACL line of docs/production.md is enough for everything, and for little more."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from queuekit import CronJob, Status
from queuekit.errors import ServerRefusedError
from queuekit.simulation.errors import SimulationError
from tests.docs.pages import ROOT
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.running import running

pytestmark = pytest.mark.slow

PASSWORD = "canary-7fd1"


def acl_line():
    """The rules that the documentation gives, without the user's name and password."""
    page = (ROOT / "docs" / "production.md").read_text("utf-8")
    [line] = re.findall(r"^ACL SETUSER queuekit on >\S+ (.+)$", page, re.MULTILINE)
    return line.split()


def as_user(server):
    server.ask("ACL", "SETUSER", "queuekit", "on", f">{PASSWORD}", *acl_line())
    return server.url.replace("unix://", f"unix://queuekit:{PASSWORD}@")


async def add(ctx, a, b):
    await ctx["job"].update(progress=0.5, meta={"half": "done"})
    return a + b


async def hold(ctx):
    await asyncio.sleep(1000)


async def fails(ctx):
    raise ValueError("no")


async def tick(ctx):
    return "ticked"


def denied(server):
    """What the server had to refuse to that user."""
    return [
        entry[entry.index(b"object") + 1].decode()
        for entry in server.ask("ACL", "LOG")
        if entry[entry.index(b"username") + 1] == b"queuekit"
    ]


def test_every_method_works_for_a_user_with_these_rights_alone(server, caplog):
    caplog.set_level(logging.DEBUG, logger="queuekit")
    ticks = CronJob(tick, cron="* * * * * *")

    async def main():
        async with (
            queue_at(as_user(server)) as queue,
            worker_of(queue, [add, hold, fails], cron_jobs=[ticks], lease_s=1) as worker,
        ):
            await queue.connect()
            assert await queue.apply("add", a=1, b=2) == 3
            assert await queue.map("add", [{"a": n} for n in range(3)], b=1) == [1, 2, 3]
            failed = await queue.enqueue("fails", retries=2, retry_delay=0.01)
            await failed.refresh(until_complete=30)
            assert (failed.status, failed.attempts) == (Status.FAILED, 2)
            await failed.retry("once more")
            held = await queue.enqueue("hold", timeout=None)
            await queue.listen([held.key], lambda key, status: status is Status.ACTIVE, 30)
            await until(lambda: _renewed(queue, held.key, server))
            await queue.abort(held, "enough")
            await held.refresh(until_complete=30)
            later = await queue.enqueue("hold", scheduled=int(time.time()) + 10**8)
            await later.update(progress=0.1)
            await later.abort("no more")
            assert [job.key async for job in queue.iter_jobs([Status.COMPLETE])]
            assert await queue.count("incomplete") >= 0
            assert worker.id in (await queue.info(jobs=True))["workers"]
            assert await queue.jobs([held.key, "missing"])
            await until(lambda: _ticked(queue))

    in_real_time(main)
    allowed_to_be_denied = {"config|get", "config", "info", "client|setinfo", "client"}
    assert set(denied(server)) <= allowed_to_be_denied
    assert not [
        r
        for r in caplog.records
        if r.levelno >= logging.WARNING and "ValueError" not in r.getMessage()
    ]


async def _renewed(queue, key, server):
    return server.info("commandstats").get("cmdstat_zadd")


async def _ticked(queue):
    return [job async for job in queue.iter_jobs([Status.COMPLETE]) if job.function == "tick"]


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("SET", "somebody-elses", "1"),
        ("GET", "somebody-elses"),
        ("ACL", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("PUBLISH", "somebody-elses", "1"),
    ],
    ids=" ".join,
)
def test_that_user_can_do_no_harm_to_others(server, command):
    as_user(server)
    link = server.link()
    try:
        link.ask(b"AUTH", b"queuekit", PASSWORD.encode())
        with pytest.raises(SimulationError, match="NOPERM"):
            link.ask(*(word.encode() for word in command))
    finally:
        link.close()


def test_a_right_that_is_missing_is_told_with_the_way_out(server):
    async def main():
        url = as_user(server)
        server.ask("ACL", "SETUSER", "queuekit", "-evalsha")
        async with queue_at(url) as queue:
            with pytest.raises(ServerRefusedError, match=r"docs/production\.md") as caught:
                await queue.enqueue("add")
            assert (caught.value.code, caught.value.may_have_happened) == ("NOPERM", False)

    in_real_time(main)


def test_a_user_that_is_switched_off_and_on_again_costs_no_worker(program):
    async def main(server):
        async with queue_at(as_user(server)) as queue, worker_of(queue, [add]) as worker:
            assert await queue.apply("add", a=1, b=1) == 2
            server.ask("ACL", "SETUSER", "queuekit", "off")
            server.ask("CLIENT", "KILL", "USER", "queuekit")
            await until(lambda: worker.outage.lasts)
            server.ask("ACL", "SETUSER", "queuekit", "on")
            await until(lambda: not worker.outage.lasts)
            assert await queue.apply("add", a=1, b=2) == 3

    with running(program) as server:
        in_real_time(lambda: main(server))
