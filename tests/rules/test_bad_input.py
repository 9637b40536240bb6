"""Bad input is refused at once, with what was given, what was expected, and what to do."""

from __future__ import annotations

import dataclasses
import functools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from queuekit import Queue, Worker
from queuekit.errors import (
    InvalidOptionError,
    InvalidOptionTypeError,
    NotSerializableError,
    QueuekitError,
)
from queuekit.job import Job
from queuekit.options import check_queue_name, make_job, make_jobs
from queuekit.registry import Registry
from queuekit.store.codec import MAX_META_BYTES, Codec
from queuekit.store.seal import Seal
from tests.rules.refusals import refused

QUEUE = Queue.from_url("redis://localhost")
HUGE = 10**5000
"An integer that Python itself refuses to write down."


async def ok(ctx):
    """A task."""


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"timeout": "abc"}, TypeError, "timeout='abc' (str) is no number"),
        ({"timeout": -1}, ValueError, "timeout=-1 is out of range"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan is out of range"),
        ({"timeout": 10**400}, ValueError, "is out of range"),
        ({"timeout": HUGE}, ValueError, "is out of range"),
        ({"timeout": True}, TypeError, "timeout=True (bool) is no number"),
        ({"timeout": Decimal(1)}, TypeError, "is no number"),
        ({"heartbeat": float("inf")}, ValueError, "heartbeat=inf"),
        ({"heartbeat": None}, TypeError, "heartbeat=None"),
        ({"retries": -1}, ValueError, "retries=-1 is out of range"),
        ({"retries": 10_001}, ValueError, "from 0 to 10000"),
        ({"retries": HUGE}, ValueError, "is out of range"),
        ({"retries": 1.5}, TypeError, "no whole number"),
        ({"retries": True}, TypeError, "no whole number"),
        ({"ttl": -5}, ValueError, "ttl=-5"),
        ({"ttl": 1.5}, TypeError, "ttl=1.5 (float) is no whole number"),
        ({"retry_delay": "1"}, TypeError, "retry_delay='1'"),
        ({"retry_backoff": -1}, ValueError, "retry_backoff=-1"),
        ({"retry_backoff": "yes"}, TypeError, "retry_backoff='yes'"),
        ({"key": ""}, ValueError, "It has 1 to 512 bytes"),
        ({"key": 5}, TypeError, "key must be text, got 5"),
        ({"key": "a\nb"}, ValueError, "no control characters"),
        ({"key": "a\x7fb"}, ValueError, "no control characters"),
        ({"key": "a\x9bb"}, ValueError, "no control characters"),
        ({"key": "a\u2028b"}, ValueError, "no control characters"),
        ({"key": "x" * 513}, ValueError, "has 513 bytes"),
        ({"key": "ü" * 257}, ValueError, "has 514 bytes"),
        ({"key": "\ud800"}, ValueError, "no valid Unicode"),
        ({"kwargs": 5}, TypeError, "kwargs=5 (int) is no mapping"),
        ({"kwargs": [("a", 1)]}, TypeError, "is no mapping"),
        ({"kwargs": {1: 2}}, TypeError, "kwargs has the name 1 (int)"),
        ({"meta": "x"}, TypeError, "meta='x' (str) is no mapping"),
        ({"meta": None}, TypeError, "meta=None"),
        ({"status": "queued"}, TypeError, "only queuekit sets a job's status"),
        ({"attempts": 99}, TypeError, "only queuekit sets a job's attempts"),
        ({"result": 1}, TypeError, "only queuekit sets a job's result"),
        ({"error": "x"}, TypeError, "only queuekit sets a job's error"),
        ({"started": 1}, TypeError, "only queuekit sets a job's started"),
        ({"fence": 1}, TypeError, "only queuekit sets a job's fence"),
        ({"queue": "zz"}, TypeError, "only queuekit sets a job's queue"),
        ({"on_duplicate": "raise"}, TypeError, "an option of enqueue() alone"),
        ({"priority": 40_000}, ValueError, "a whole number from -32768 to 32767"),
        ({"priority": "high"}, TypeError, "is no whole number"),
        ({"group_key": ""}, ValueError, "It has 1 to 256 bytes"),
        ({"group_key": 5}, TypeError, "group_key must be text"),
        ({"group_key": "a\x01b"}, ValueError, "no control characters"),
        ({"max_lost": -1}, ValueError, "a whole number from 0 to 100"),
        ({"max_lost": None}, TypeError, "max_lost=None"),
        ({"scheduled": 7_000_000_000}, ValueError, "days ahead"),
        ({"scheduled": timedelta(days=4000)}, ValueError, "days ahead"),
        ({"scheduled": timedelta.max}, ValueError, "days ahead"),
        ({"scheduled": datetime.max.replace(tzinfo=UTC)}, ValueError, "days ahead"),
        ({"scheduled": "tomorrow"}, TypeError, "is no moment"),
        ({"scheduled": None}, TypeError, "is no moment"),
        ({"scheduled": 60}, ValueError, "scheduled=timedelta(seconds=60)"),
        ({"scheduled": datetime(1970, 1, 2, tzinfo=UTC)}, ValueError, "of the year 1970"),
        ({"scheduled": -1}, ValueError, "outside 1970 to 2200"),
        ({"scheduled": 10**400}, ValueError, "outside 1970 to 2200"),
        ({"scheduled": 1_700_000_000_000}, ValueError, "milliseconds are too large by a thousand"),
        ({"scheduled": float("nan")}, ValueError, "outside 1970 to 2200"),
        ({"scheduled": datetime(2030, 1, 1)}, ValueError, "has no time zone"),  # noqa: DTZ001 (the point)
        ({"progress": 2}, ValueError, "progress=2"),
        ({"progress": float("nan")}, ValueError, "progress=nan"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_option_is_refused(arguments, kind, words):
    error = refused(kind, words, make_job, "f", arguments)
    assert isinstance(error, InvalidOptionError | InvalidOptionTypeError)
    refused(kind, words, make_job, Job("f", key="k"), arguments)


@pytest.mark.parametrize("what", [None, 5, "", []])
def test_what_is_no_task_is_refused(what):
    refused(TypeError, "is no task", make_job, what, {})


@pytest.mark.parametrize("function", [5, "", None, "a\nb", "x" * 513, "\ud800"])
def test_a_job_of_a_function_that_cannot_be_named_is_refused(function):
    refused((ValueError, TypeError), "function", make_job, Job(function), {})


def test_a_value_is_shown_by_its_beginning_only():
    error = refused(TypeError, "...", make_job, "f", {"timeout": "x" * 10_000})
    assert len(str(error)) < 400


def test_a_job_that_was_handed_over_is_not_half_changed_by_an_option_that_is_refused():
    job = Job("f", kwargs={"a": 1}, key="k")
    before = dataclasses.replace(job)
    for bad in ({"retries": 9, "ttl": -5}, {"b": 2, "priority": "high"}, {"key": "l", "meta": 5}):
        refused((ValueError, TypeError), "", make_job, job, bad)
    assert dataclasses.asdict(job) == dataclasses.asdict(before)
    assert make_job(job, {"b": 2, "retries": 3}) is job
    assert (job.kwargs, job.retries) == ({"a": 1, "b": 2}, 3)


@pytest.mark.parametrize(
    ("items", "kind", "words"),
    [
        (5, TypeError, "iter_kwargs=5 (int) is no list"),
        ("ab", TypeError, "iter_kwargs='ab' (str)"),
        ({"a": 1}, TypeError, "is no list of mappings"),
        ([{"a": 1}, 5], TypeError, "iter_kwargs[1]=5 (int) is no mapping"),
        ([{"a": 1}, None], TypeError, "iter_kwargs[1]=None"),
        ([{}, {"retries": -1}], ValueError, "retries=-1"),
        ([{"key": "k"}, {"key": "k"}], ValueError, "item 1 is the second"),
    ],
)
def test_bad_items_of_a_map_are_refused_with_the_number_of_the_item(items, kind, words):
    error = refused(kind, words, make_jobs, "f", items, {})
    if words == "retries=-1":
        assert error.__notes__ == ["in item 1 of map()"]


@pytest.mark.parametrize(
    "name",
    ["", "a{b", "a}b", "a\nb", "x" * 129, "a b", "a*", "a?", "[a]", "a\\b", "\ud800", "a\u00a0"],
)
def test_a_queue_name_that_would_mean_something_to_redis_is_refused(name):
    refused(InvalidOptionError, "cannot name a queue", check_queue_name, name)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"name": 5}, TypeError, "a queue's name must be text"),
        ({"name": None}, TypeError, "a queue's name must be text"),
        ({"dump": json.dumps}, ValueError, "dump was given without load"),
        ({"load": json.loads}, ValueError, "load was given without dump"),
        ({"dump": 5, "load": json.loads}, TypeError, "dump=5 (int) cannot be called"),
        ({"max_waiting": 0}, ValueError, "max_waiting=0 is out of range"),
        ({"max_waiting": "many"}, TypeError, "max_waiting='many'"),
        ({"max_waiting": float("nan")}, TypeError, "max_waiting=nan"),
        ({"signing_keys": None}, TypeError, "signing_keys is NoneType"),
        ({"signing_keys": [32]}, TypeError, "a signing key is int"),
        ({"signing_keys": ["short"]}, ValueError, "fewer than 16 bytes"),
        ({"signing_keys": ""}, ValueError, "fewer than 16 bytes"),
    ],
)
def test_bad_option_of_a_queue_is_refused(options, kind, words):
    refused(kind, words, Queue.from_url, "redis://localhost", **options)


def test_a_signing_key_shows_in_no_error():
    for keys in (["hunter2"], ["s3cret-and-long-enough", 5]):
        error = refused((ValueError, TypeError), "signing key", Seal, "q", keys)
        assert "hunter2" not in str(error)
        assert "s3cret" not in str(error)


NUMBERS = (
    "dequeue_timeout",
    "shutdown_grace_period_s",
    "cancellation_hard_deadline_s",
    "lease_s",
    "solo_wait_s",
)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", True, 10**400])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_option_of_a_worker_takes_what_is_no_time(name, value):
    refused((ValueError, TypeError), name, Worker, QUEUE, [ok], **{name: value})


@pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf"), "5", None, True])
@pytest.mark.parametrize("name", ["schedule", "worker_info", "sweep", "abort"])
def test_no_timer_of_a_worker_takes_what_is_no_time(name, value):
    refused((ValueError, TypeError), f"timers['{name}']", Worker, QUEUE, [ok], timers={name: value})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"concurrency": 0}, ValueError, "concurrency=0 is out of range"),
        ({"concurrency": -1}, ValueError, "concurrency=-1"),
        ({"concurrency": 1.5}, TypeError, "concurrency=1.5 (float)"),
        ({"concurrency": True}, TypeError, "concurrency=True"),
        ({"concurrency": None}, TypeError, "concurrency=None"),
        ({"concurrency": 10**6}, ValueError, "from 1 to 10000"),
        ({"max_burst_jobs": 0}, ValueError, "max_burst_jobs=0"),
        ({"max_burst_jobs": "1"}, TypeError, "max_burst_jobs='1'"),
        ({"lease_s": 0.5}, ValueError, "lease_s=0.5 is out of range"),
        ({"lease_s": 10**6}, ValueError, "from 1 to 86400"),
        ({"id": ""}, ValueError, "1 to 128 bytes"),
        ({"id": 5}, TypeError, "id must be text"),
        ({"id": "a\nb"}, ValueError, "no control characters"),
        ({"timers": {"nope": 1}}, ValueError, "there is no timer 'nope'"),
        ({"timers": 5}, TypeError, "timers=5 (int) is no dictionary"),
        ({"startup": 5}, TypeError, "startup"),
        ({"before_process": [ok, 5]}, TypeError, "before_process=5 (int) is no hook"),
        ({"cron_tz": 3600}, TypeError, "cron_tz=3600 is no time zone"),
        ({"metadata": {"x": object()}}, TypeError, "cannot be told to others"),
        ({"metadata": {"x": float("nan")}}, TypeError, "cannot be told to others"),
        ({"metadata": {"x": "y" * 70_000}}, ValueError, "takes 70,"),
        ({"metadata": [1]}, ValueError, "It is a dictionary"),
        ({"queue": "redis://localhost"}, TypeError, "is no queue"),
        ({"functions": 5}, TypeError, "functions=5 is no list of tasks"),
        ({"functions": ok}, TypeError, "is no list of tasks"),
    ],
)
def test_bad_option_of_a_worker_is_refused_when_it_is_built(options, kind, words):
    refused(kind, words, Worker, **{"queue": QUEUE, "functions": [ok], **options})


class Callable:
    def __call__(self, ctx):
        yield


def generator(ctx):
    yield


async def async_generator(ctx):
    yield


@pytest.mark.parametrize(
    "task",
    [generator, async_generator, Callable(), functools.partial(generator), ("name", generator)],
)
def test_a_generator_is_no_task_since_calling_it_would_run_nothing(task):
    refused(InvalidOptionTypeError, "is a generator", Registry, [task])


@pytest.mark.parametrize(
    "entry", ["send", 5, None, Callable, ("name",), ("name", ok, 3), ("name", 5), ("a", Callable)]
)
def test_what_is_no_function_is_refused(entry):
    refused(InvalidOptionTypeError, "is no task", Registry, [entry])


@pytest.mark.parametrize("name", ["", 5, None, "a\nb", "x" * 513])
def test_a_task_cannot_have_a_name_that_no_job_could_have(name):
    refused((ValueError, TypeError), "name", Registry, [(name, ok)])


def test_two_tasks_of_one_name_are_refused():
    def other(ctx):
        """Another one."""

    error = refused(InvalidOptionError, "two tasks are called 'ok'", Registry, [ok, ("ok", other)])
    assert "tests.rules" in str(error) or "test_bad_input" in str(error)


@dataclasses.dataclass
class Point:
    x: int = 1


def circular():
    loop: dict[str, object] = {}
    loop["self"] = [loop]
    return loop


def nested(levels):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"items": [1, {2, 3}]}, "kwargs['items'][1]"),
        ({"items": [0, 1, 2, {"at": b"raw"}]}, "kwargs['items'][3]['at']"),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, "kwargs['at']"),
        ({"n": float("nan")}, "kwargs['n']"),
        ({"n": float("-inf")}, "kwargs['n']"),
        ({"n": HUGE}, "kwargs['n']"),
        ({"text": "\ud800"}, "kwargs['text']"),
        ({"deep": {1: 2}}, "kwargs['deep'][1]"),
        ({"deep": {"\ud800": 2}}, "kwargs['deep']"),
        ({"raw": b"x"}, "kwargs['raw']"),
        ({"price": Decimal("1.5")}, "kwargs['price']"),
        ({"point": Point()}, "kwargs['point']"),
        ({"loop": circular()}, "kwargs['loop']"),
        ({"deep": nested(200)}, "kwargs['deep']"),
        ({"deeper": nested(50_000)}, "kwargs['deeper']"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_argument_that_cannot_be_stored_is_named_by_its_path(value, where):
    error = refused(NotSerializableError, where, Codec().encode_call, Job("f", kwargs=value))
    assert "give the queue a dump and load" in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("what", ["result", "meta"])
def test_a_result_and_meta_are_named_by_their_path_too(what):
    refused(NotSerializableError, "['x'][1]", Codec().encode_value, what, "k", {"x": [1, {2}]})


def test_whole_numbers_of_any_size_come_back_as_they_went():
    codec = Codec()
    for number in (2**53 + 1, -(2**64), 10**100):
        assert (
            codec.decode_value("result", "k", codec.encode_value("result", "k", number)) == number
        )


def raises_oddly(value):
    class OddError(Exception):
        def __str__(self):
            raise ValueError

    raise OddError


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        (raises_oddly, "its __str__ raised ValueError"),
        (lambda value: 5, "dump gave int, not text or bytes"),
        (lambda value: None, "dump gave NoneType"),
        (lambda value: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_dump_that_raises_or_gives_no_text_is_an_error_of_the_arguments(dump, words):
    codec = Codec(dump, json.loads)
    refused(NotSerializableError, words, codec.encode_call, Job("f", kwargs={"a": 1}))


def test_a_payload_over_the_limit_is_refused_with_its_size():
    call = Job("f", kwargs={"x": "y" * 1_048_576})
    refused(InvalidOptionError, "takes 1,048,6", Codec().encode_call, call)
    refused(InvalidOptionError, "takes 1,048,5", Codec().encode_value, "result", "k", "y" * 2**20)
    meta = {"x": "y" * MAX_META_BYTES}
    refused(InvalidOptionError, "meta takes 65,", Codec().encode_value, "meta", "k", meta)
    refused(InvalidOptionError, "meta takes 65,", Codec().encode_call, Job("f", meta=meta))


def test_an_object_whose_repr_raises_does_not_hide_the_error():
    class Broken:
        def __repr__(self):
            raise ValueError

    refused(
        NotSerializableError,
        "its __repr__ raised ValueError",
        Codec().encode_call,
        Job("f", kwargs={"x": Broken()}),
    )
    refused(TypeError, "its __repr__ raised ValueError", make_job, "f", {"timeout": Broken()})


def test_whoever_catches_queuekits_errors_or_pythons_own_catches_each_of_these():
    for kind, base in ((InvalidOptionError, ValueError), (InvalidOptionTypeError, TypeError)):
        assert issubclass(kind, base)
        assert issubclass(kind, QueuekitError)
    assert issubclass(NotSerializableError, TypeError)
