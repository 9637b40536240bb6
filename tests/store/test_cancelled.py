"""A call that is cancelled on its way, and made again: as if it had been made once."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from queuekit.job import Status
from queuekit.simulation.observe import Hop
from queuekit.store.redis import Move, NewJob
from queuekit.store.schedules import adopt
from tests.store.hand import ALIVE_MS, LEASE_MS, PAYLOAD, ROOM_MS
from tests.store.servers import SCRIPTS

MAX_HOPS = 20
"More than any call has, with its connection's opening."


def new(key, **options):
    return NewJob(key, f"id-{key}", PAYLOAD, **options)


async def take(store, claim_id="c1"):
    claimed = await store.claim("w", claim_id, 10, LEASE_MS, ALIVE_MS, idle=True, room_ms=ROOM_MS)
    return claimed.jobs


async def waiting(hand):
    await hand.store.enqueue([new("a", group="g"), new("b", group="g"), new("c", delay_ms=1)])


async def running(hand):
    await waiting(hand)
    await take(hand.store)


async def lost(hand):
    await running(hand)
    await hand.damage("a", "state overwritten")
    await hand.command("ZADD", f"{hand.store.root}:lease", 1, "a")


async def set_aside(hand):
    await waiting(hand)
    await hand.damage("a", "state overwritten")
    await take(hand.store)


async def finished(hand):
    await running(hand)
    await hand.store.commit([Move("a", 1, "c1", Status.COMPLETE, ttl_ms=1)])
    await hand.command("ZADD", f"{hand.store.root}:finished", 1, "a")


def ticked(store):
    return store.cron("s", 1000, unique=True, job=new("tick"), timetable="t", worker="w")


END = Move("a", 1, "c1", Status.QUEUED, charge="failures", outcome="retried", error=b"no")
CALLS = {
    "abort": (running, lambda store: store.abort("a", b"because", 1000, "id")),
    "claim": (waiting, take),
    "commit": (running, lambda store: store.commit([END])),
    "adopt": (running, lambda store: adopt(store, "w", [("s", "t"), ("other", "u")])),
    "cron": (running, ticked),
    "discard": (set_aside, lambda store: store.discard("a")),
    "enqueue": (waiting, lambda store: store.enqueue([new("d", group="g"), new("e")])),
    "expire": (finished, lambda store: store.expire()),
    "expired": (lost, lambda store: store.expired()),
    "pass_on": (running, lambda store: store.nudge("w")),
    "read": (running, lambda store: store.read(["a", "b"])),
    "register": (running, lambda store: store.register("w", ALIVE_MS, b"{}")),
    "renew": (running, lambda store: store.renew([("a", 1, "c1")], LEASE_MS + 5)),
    "restore": (set_aside, lambda store: store.restore("a", "r1")),
    "update": (running, lambda store: store.update("a", 1, "c1", "0.5", b"m")),
}
"For each script: what is there before, and the call of the store that runs it."


class Canceller:
    """Cancels a task as the n-th command or reply from now on is about to be delivered."""

    def __init__(self, simulation):
        self.task = None
        self.left = 0
        simulation.observe(self)

    def __call__(self, event):
        if self.task is None or not isinstance(event, Hop):
            return
        if self.left == 0:
            self.task.cancel()
            self.task = None
        self.left -= 1

    async def run(self, call, hop):
        """Whether the call was cancelled."""
        self.left = hop
        self.task = asyncio.ensure_future(call)
        task = self.task
        with contextlib.suppress(asyncio.CancelledError):
            await task
        cancelled, self.task = self.task is None, None
        return cancelled


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_cancelled(script):
    assert script in CALLS, f"{script}.lua has no call in CALLS: say how the store runs it."


@pytest.mark.parametrize("script", CALLS)
async def test_a_call_that_is_cancelled_at_any_hop_and_made_again_acts_once(
    hand, simulation, script
):
    before, call = CALLS[script]
    await before(hand)
    answer = await call(hand.store)
    once = await hand.look()
    canceller = Canceller(simulation)
    for hop in range(MAX_HOPS):
        await hand.command("FLUSHALL")
        await before(hand)
        if not await canceller.run(call(hand.store), hop):
            break
        again = await call(hand.store)
        assert await hand.look() == once, f"cancelled at hop {hop}"
        assert type(again) is type(answer)
    assert 2 <= hop < MAX_HOPS, "it was cancelled on its way there and on its way back"
