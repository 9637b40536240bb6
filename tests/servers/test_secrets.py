"""A password shows nowhere: each way to give one, each thing that is printed, logged or raised."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback

import pytest

from queuekit import Queue, Worker
from queuekit.errors import InvalidOptionTypeError, InvalidUrlError, ServerError
from tests.servers.patience import in_real_time, until
from tests.servers.running import running

pytestmark = pytest.mark.slow

CANARY = "canary-9e1b47"

NOBODY = "127.0.0.1:1"
"Nobody listens there."

GIVEN = {
    "in the address": (f"redis://user:{CANARY}@{NOBODY}", {}),
    "without a user": (f"redis://:{CANARY}@{NOBODY}", {}),
    "in the query": (f"redis://{NOBODY}?password={CANARY}", {}),
    "as an option": (f"redis://{NOBODY}", {"password": CANARY}),
    "of TLS": (f"rediss://:{CANARY}@{NOBODY}", {}),
    "of the Sentinels": (
        f"sentinel://:{CANARY}@{NOBODY}/mymaster",
        {"sentinel_kwargs": {"password": CANARY}},
    ),
    "of a Cluster": (f"rediscluster://u:{CANARY}@{NOBODY}", {}),
    "of a unix socket": (f"unix://:{CANARY}@/nowhere.sock", {}),
    "of a development server": (f"fakeredis://:{CANARY}@dev", {}),
    "with an @ in it": (f"redis://:{CANARY}@{CANARY}@{NOBODY}", {}),
}

BAD = [
    f"redis://:{CANARY}/{CANARY}@host",
    f"redis://:x@{CANARY}/{CANARY}@host",
    f"redis://:{CANARY}#x@host:port",
    f"redis://user:{CANARY}@[::1",
    f"http://user:{CANARY}@host",
    f"sentinel://user:{CANARY}@host",
    f"sentinel://user:{CANARY}@host:port/mymaster",
    f"rediscluster://user:{CANARY}@",
    f"rediscluster://user:{CANARY}@host/3",
    f"redis://host?socket_timeout={CANARY}&password={CANARY}",
]


def words_of(error):
    """Everything that an exception and those behind it say."""
    said, seen = [], set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        said += [str(one), repr(one), repr(one.args), *getattr(one, "__notes__", ())]
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    said += traceback.format_exception(error)
    return "\n".join(said)


def reprs_of(queue, worker):
    """What things print like; also what hangs inside them, as a debugger or an error tracker sees it."""
    store = queue.store
    things = [queue, worker, store, store.server, store.connections, store.connections.address]
    return "\n".join(text for thing in things for text in (repr(thing), str(thing)))


@pytest.fixture
def logged():
    """Everything that is logged at any level, by anybody."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    logger = logging.getLogger()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


async def call_everything(queue, said):
    """Whatever each public method raises."""
    for call in (
        queue.connect(),
        queue.enqueue("add", key="one"),
        queue.apply("add", timeout=0.1),
        queue.job("one"),
        queue.count("queued"),
        queue.info(jobs=True),
        queue.listen(["one"], lambda key, status: True),
    ):
        try:
            await call
        except Exception as error:
            said.append(words_of(error))


async def work_a_little(queue, said, logged, *, away):
    worker = Worker(queue=queue, functions=[len], id="w")
    clients = queue.store.connections.current()
    said.append(reprs_of(queue, worker))
    said += [repr(thing) for thing in (clients, clients.commands, clients.route, clients.hints)]
    await call_everything(queue, said)
    task = asyncio.create_task(worker.start())
    await until(lambda: "worker w starts" in logged.getvalue())
    if away:
        await until(lambda: worker.outage.lasts)
    await worker.stop()
    await task
    await queue.disconnect()


@pytest.mark.parametrize("how", GIVEN)
def test_a_password_that_is_given_shows_nowhere_while_nobody_answers(how, logged):
    url, options = GIVEN[how]
    said = []

    async def main():
        queue = Queue.from_url(url, **options)
        await work_a_little(queue, said, logged, away=not url.startswith("fakeredis"))

    in_real_time(main)
    assert CANARY not in "\n".join(said)
    assert CANARY not in logged.getvalue()
    assert len(said) > 3, "there was something to look at"


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_a_password_shows_nowhere_when_the_server_takes_or_refuses_it(program, right, logged):
    said = []

    async def main(server):
        queue = Queue.from_url(server.url.replace("unix://", f"unix://:{CANARY}@"))
        await work_a_little(queue, said, logged, away=not right)

    password = CANARY if right else "another"
    with running(program, f"requirepass {password}", password=password) as server:
        in_real_time(lambda: main(server))
    assert CANARY not in "\n".join(said)
    assert CANARY not in logged.getvalue()


def test_an_option_that_no_connection_knows_is_refused_when_the_queue_is_built():
    with pytest.raises(InvalidOptionTypeError, match="nonsense") as caught:
        Queue.from_url(f"redis://:{CANARY}@{NOBODY}", nonsense=CANARY)
    assert CANARY not in words_of(caught.value)


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_cannot_be_read_is_told_without_its_password(url):
    with pytest.raises((InvalidUrlError, ServerError)) as caught:
        Queue.from_url(url)
    assert CANARY not in words_of(caught.value)
