"""One battery: a server, workers, clients, faults, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from queuekit.simulation.private_server import find_servers
from tests.chaos import faults
from tests.chaos.crew import Crew
from tests.chaos.enqueuer import Enqueuer
from tests.chaos.evidence import Reader
from tests.chaos.form import Form
from tests.chaos.peers import ERRORS, PEERS, Peer
from tests.chaos.proxy import Proxy
from tests.chaos.sampler import Sampler
from tests.chaos.server import Server
from tests.chaos.verdict import Verdict, judge

READ_S = 0.02
"How often the evidence is read."

STALL_S = 3.0
"A fault that waits for progress does not wait longer than this for any: the last one may have ended it all."

LOOK_S = 0.5

CANCEL_AGAIN_S = 0.1


@dataclass
class Scene:
    """A server with a proxy in front, and the peer's clients on both sides of it."""

    stage: faults.Stage
    reader: Reader
    clients: Peer
    "Those that enqueue, through the proxy."
    watcher: Peer
    "Past the faults."
    crew: Crew


@contextlib.asynccontextmanager
async def scene(peer: str, form: Form, folder: Path) -> AsyncIterator[Scene]:
    """Everything is started, and ended whatever happens."""
    async with contextlib.AsyncExitStack() as stack:
        server = Server(find_servers()[0][1], folder / "primary")
        stack.push_async_callback(server.close)
        await server.start()
        proxies = [Proxy(server.port), Proxy(server.port)]
        for proxy in proxies:
            await proxy.start()
            stack.push_async_callback(proxy.close)
        reader = Reader(folder / "evidence")
        crew = Crew(peer, form, proxies[0].url, folder, reader)
        stage = faults.Stage(form, crew, server, proxies, folder, random.Random(form.seed))
        stack.push_async_callback(stage.close)
        clients, watcher = (PEERS[peer](proxy.url, form.lease_s) for proxy in proxies)
        stack.push_async_callback(clients.close)
        stack.push_async_callback(watcher.close)
        stack.callback(crew.close)
        yield Scene(stage, reader, clients, watcher, crew)


async def run(
    peer: str,
    form: Form,
    *,
    tasks: Sequence[str] = (),
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> Verdict:
    """Run one battery. With a folder, logs and evidence stay there; with tasks, its jobs are these."""
    with tempfile.TemporaryDirectory(prefix="queuekit-chaos-") as temporary:
        async with scene(peer, form, folder or Path(temporary)) as found:
            return await _act(peer, found, form, Enqueuer(found.clients, form, tasks), say)


async def _act(
    peer: str, found: Scene, form: Form, enqueuer: Enqueuer, say: Callable[[str], None]
) -> Verdict:
    began = time.monotonic()
    sampler = Sampler(found.watcher, found.reader, form.seed)
    found.crew.start()
    enqueuing = asyncio.create_task(enqueuer.run())
    duties = [
        asyncio.create_task(duty)
        for duty in (_follow(found.reader), found.crew.supervise(), sampler.watch())
    ]
    try:
        for ended, kind in faults.plan(form):
            enqueuer.allow(ended)
            await _progress(found.reader, ended)
            await faults.do(kind, found.stage)
            _complain([enqueuing, *duties])
        enqueuer.allow(form.jobs)
        await found.stage.healed()
        healed = time.monotonic()
        if found.stage.fired:
            say(
                f"    {form.title}, {peer}: {len(found.stage.fired)} faults, {healed - began:.0f} s"
            )
        back = await _all_back(enqueuing, enqueuer, sampler, form.patience_s)
        found.reader.read()
    finally:
        await _end([enqueuing, *duties])
    await sampler.look(enqueuer.acknowledged)
    found.reader.read()
    found.stage.write_down()
    verdict = judge(
        enqueuer,
        found.reader,
        sampler,
        lease_s=form.lease_s,
        counts_losses=peer == "queuekit",
        # SAQ writes down the time of whichever worker it is.
        one_clock=peer == "queuekit" or not form.skew_s,
    )
    verdict.back_s = max(0.0, sampler.last_new - healed) if back else None
    verdict.seconds = time.monotonic() - began
    verdict.ended_by_themselves = len(found.crew.ended_by_themselves)
    for fired in found.stage.fired:
        verdict.fired[fired.kind] = verdict.fired.get(fired.kind, 0) + 1
    return verdict


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them, and again: Python 3.11's wait_for(), which redis-py sends its commands with, swallows
    a cancellation that meets it when its command has just ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)


def _complain(duties: list[asyncio.Task[None]]) -> None:
    """What broke breaks the battery."""
    for duty in duties:
        if duty.done():
            duty.result()


async def _follow(reader: Reader) -> None:
    while True:
        reader.read()
        await asyncio.sleep(READ_S)


async def _progress(reader: Reader, ended: int) -> None:
    """Until so many jobs have ended, or none has for a while."""
    seen, since = len(reader.ended), time.monotonic()
    while len(reader.ended) < ended and time.monotonic() - since < STALL_S:
        await asyncio.sleep(READ_S)
        if len(reader.ended) > seen:
            seen, since = len(reader.ended), time.monotonic()


async def _all_back(
    enqueuing: asyncio.Task[None], enqueuer: Enqueuer, sampler: Sampler, patience_s: float
) -> bool:
    """Whether every job is acknowledged and terminal before patience is over."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(*ERRORS):
            missing = [key for key in enqueuer.acknowledged if key not in sampler.first]
            await sampler.look(missing)
            _complain([enqueuing])
            if enqueuing.done() and all(key in sampler.first for key in enqueuer.acknowledged):
                return True
        await asyncio.sleep(LOOK_S)
    return False
