"""From the arguments of `enqueue` to a job: bad input is refused at once, in words that help."""

import functools
from datetime import UTC, datetime, timedelta

import pytest

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError, NotSerializableError
from queuekit.job import Job
from queuekit.options import check_job_key, check_queue_name, due_of, function_name, make_job
from queuekit.store.codec import Codec


class Mailer:
    def send(self):
        """A task that is a method."""


def test_option_keywords_are_options_and_the_rest_are_arguments():
    job = make_job("f", {"order": 1, "timeout": 60, "retries": 3, "key": "k"})
    assert (job.kwargs, job.timeout, job.retries, job.key) == ({"order": 1}, 60, 3, "k")


def test_kwargs_reach_a_task_whose_parameters_have_the_names_of_options():
    job = make_job("f", {"kwargs": {"timeout": 3, "key": "x", "self": 1}, "timeout": 60})
    assert (job.kwargs, job.timeout) == ({"timeout": 3, "key": "x", "self": 1}, 60)


def test_a_task_is_named_by_its_qualified_name_without_enclosing_functions():
    def local():
        """A task inside a function."""

    assert function_name(Mailer.send) == "Mailer.send"
    assert function_name(local) == "local"
    assert function_name(functools.partial(local)) == "local"


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"timeout": "abc"}, TypeError, "timeout='abc' (str) is no number"),
        ({"timeout": -1}, ValueError, "timeout=-1 is out of range"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan is out of range"),
        ({"heartbeat": float("inf")}, ValueError, "heartbeat=inf"),
        ({"retries": -1}, ValueError, "retries=-1 is out of range"),
        ({"retries": 1.5}, TypeError, "no whole number"),
        ({"retries": True}, TypeError, "no whole number"),
        ({"ttl": -5}, ValueError, "ttl=-5"),
        ({"retry_delay": "1"}, TypeError, "retry_delay='1'"),
        ({"retry_backoff": -1}, ValueError, "retry_backoff=-1"),
        ({"key": ""}, ValueError, "It has 1 to 512 bytes"),
        ({"key": None}, TypeError, "key must be text, got None"),
        ({"key": "a\nb"}, ValueError, "no control characters"),
        ({"key": "x" * 513}, ValueError, "has 513 bytes"),
        ({"key": "\ud800"}, ValueError, "no valid Unicode"),
        ({"kwargs": 5}, TypeError, "kwargs=5 is no mapping"),
        ({"meta": "x"}, TypeError, "meta='x' (str) is no mapping"),
        ({"status": "queued"}, TypeError, "only queuekit sets a job's status"),
        ({"attempts": 99}, TypeError, "only queuekit sets a job's attempts"),
        ({"queue": "zz"}, TypeError, "only queuekit sets a job's queue"),
        ({"priority": 40_000}, ValueError, "Pass a whole number from -32768 to 32767"),
        ({"priority": "high"}, TypeError, "is no whole number"),
        ({"group_key": ""}, ValueError, "It has 1 to 256 bytes"),
        ({"group_key": 5}, TypeError, "group_key must be text"),
        ({"max_lost": -1}, ValueError, "Pass a whole number from 0 to 100"),
        ({"scheduled": 7_000_000_000}, ValueError, "days ahead"),
        ({"scheduled": timedelta(days=4000)}, ValueError, "days ahead"),
        ({"scheduled": "tomorrow"}, TypeError, "is no moment"),
        ({"scheduled": 1_700_000_000_000}, ValueError, "milliseconds are too large by a thousand"),
        ({"scheduled": float("nan")}, ValueError, "outside 1970 to 2200"),
        ({"scheduled": datetime(2030, 1, 1)}, ValueError, "has no time zone"),  # noqa: DTZ001 (the point)
        ({"progress": 2}, ValueError, "progress=2"),
    ],
)
def test_bad_option_is_refused(arguments, kind, words):
    with pytest.raises(kind) as caught:
        make_job("f", arguments)
    assert words in str(caught.value)
    assert isinstance(caught.value, InvalidOptionError | InvalidOptionTypeError)


@pytest.mark.parametrize("what", [None, 5, "", []])
def test_what_is_no_task_is_refused(what):
    with pytest.raises(TypeError, match="is no task"):
        make_job(what, {})


def test_none_as_timeout_means_no_limit():
    assert make_job("f", {"timeout": None}).timeout is None


def test_scheduled_takes_seconds_datetimes_and_timedeltas():
    assert due_of(10) == (10_000, 0)
    assert due_of(datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)) == (10_000, 0)
    assert due_of(timedelta(seconds=1.5)) == (0, 1500)
    assert due_of(timedelta(seconds=-5)) == (0, 0)


def test_a_fraction_of_a_millisecond_is_never_rounded_to_an_earlier_moment():
    assert due_of(10.0004) == (10_001, 0)


@pytest.mark.parametrize("name", ["", "a{b", "a}b", "a\nb", "x" * 129])
def test_bad_queue_name_is_refused(name):
    with pytest.raises(InvalidOptionError, match="cannot name a queue"):
        check_queue_name(name)


def test_any_other_text_names_a_queue_and_a_job():
    assert check_queue_name("mails und mehr: ü*") == "mails und mehr: ü*"
    assert check_job_key("{mail}: 42 *") == "{mail}: 42 *"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"items": [1, {2, 3}]}, "kwargs['items'][1]"),
        ({"at": datetime(2030, 1, 1, tzinfo=UTC)}, "kwargs['at']"),
        ({"n": float("nan")}, "kwargs['n']"),
        ({"deep": {1: 2}}, "kwargs['deep'][1]"),
        ({"raw": b"x"}, "kwargs['raw']"),
    ],
)
def test_unserialisable_argument_is_named_by_its_path(value, where):
    with pytest.raises(NotSerializableError) as caught:
        Codec().encode_call(Job("f", kwargs=value))
    assert where in str(caught.value)
    assert "give the queue a dump and load" in str(caught.value)


def test_arguments_that_hold_themselves_are_refused():
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(NotSerializableError):
        Codec().encode_call(Job("f", kwargs=loop))


def test_a_payload_over_the_limit_is_refused_with_its_size():
    with pytest.raises(InvalidOptionError, match=r"takes 1,0\d\d,\d\d\d bytes"):
        Codec().encode_call(Job("f", kwargs={"x": "y" * 1_048_576}))


def test_an_object_whose_repr_raises_does_not_hide_the_error():
    class Broken:
        def __repr__(self):
            raise ValueError

    with pytest.raises(NotSerializableError, match="its __repr__ raised ValueError"):
        Codec().encode_call(Job("f", kwargs={"x": Broken()}))
