"""From the arguments of `enqueue` to a job: bad input is refused at once, in words that help."""

import functools
from datetime import UTC, datetime, timedelta

from queuekit.job import Job
from queuekit.options import check_job_key, check_queue_name, due_of, function_name, make_job


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


def test_none_as_key_has_one_made_up_as_if_it_were_left_out():
    keys = {make_job("f", {"key": None}).key, Job("f", key=None).key, make_job("f", {}).key}
    assert len(keys) == 3
    assert all(len(key) == 16 for key in keys)


def test_none_as_timeout_means_no_limit():
    assert make_job("f", {"timeout": None}).timeout is None


def test_scheduled_takes_seconds_datetimes_and_timedeltas():
    assert due_of(1_700_000_010) == (1_700_000_010_000, 0)
    assert due_of(datetime(2023, 11, 14, 22, 13, 30, tzinfo=UTC)) == (1_700_000_010_000, 0)
    assert due_of(0) == (0, 0)
    assert due_of(timedelta(seconds=1.5)) == (0, 1500)
    assert due_of(timedelta(seconds=-5)) == (0, 0)


def test_a_fraction_of_a_millisecond_is_never_rounded_to_an_earlier_moment():
    assert due_of(1_700_000_010.0004) == (1_700_000_010_001, 0)


def test_any_other_text_names_a_queue_and_a_job():
    assert check_queue_name("mails:und-mehr.ü") == "mails:und-mehr.ü"
    assert check_job_key("{mail}: 42 * \N{PARTY POPPER}") == "{mail}: 42 * \N{PARTY POPPER}"
