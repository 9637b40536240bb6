"""Records come back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.errors import NotSerializableError, TaskFailure, UnreadableRecordError
from queuekit.job import Job, Status
from queuekit.store.codec import STATE_FIELDS, Codec, encode_exception, worker_name

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


HEAD = b"an-id 5\n"


def state(**fields: bytes) -> list[bytes | None]:
    return [fields.get(name) for name in STATE_FIELDS]


@given(kwargs=st.dictionaries(st.text(max_size=8), VALUES, max_size=4), meta=VALUES)
def test_a_job_comes_back_as_it_was_enqueued(kwargs, meta):
    codec = Codec()
    job = Job(
        "f", kwargs=kwargs, key="k", timeout=3.5, retries=7, retry_backoff=60, meta={"m": meta}
    )
    back = codec.decode_job("k", HEAD + codec.encode_call(job), state())
    assert back.kwargs == (kwargs or None)
    assert (back.timeout, back.retries, back.retry_backoff, back.meta) == (3.5, 7, 60, {"m": meta})
    assert (back.status, back.queued) == (Status.QUEUED, 5)


@given(value=VALUES)
def test_a_result_comes_back_as_it_was_returned(value):
    codec = Codec()
    assert codec.decode_value("result", "k", codec.encode_value("result", "k", value)) == value


def test_fields_that_this_version_does_not_know_are_ignored():
    raw = HEAD + b'{"v":1,"function":"f","colour":"red","retries":4}'
    assert Codec().decode_job("k", raw, state()).retries == 4


def test_a_newer_format_is_refused_with_what_to_do():
    raw = HEAD + b'{"v":2,"function":"f"}'
    with pytest.raises(UnreadableRecordError, match=r"has format 2.*\n.*restore"):
        Codec().decode_job("k", raw, state())


DEEP = b"[" * 101 + b"]" * 101


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"v":1}',
        b'{"v":1,"function":5}',
        b'{"function":"f"}',
        b"\xff",
        b"[" * 100_000,
        b'{"v":1,"function":"f","kwargs":[]}',
        b'{"v":1,"function":"f","meta":' + DEEP + b"}",
    ],
)
def test_what_is_no_record_is_refused(raw):
    with pytest.raises((ValueError, TypeError), match=r".+"):
        Codec().decode_job("k", HEAD + raw, state())


@pytest.mark.parametrize(
    "record", [None, b"", b'{"v":1,"function":"f"}', b"id x\n{}", b"x" * 300 + b" 5\n{}"]
)
def test_what_has_no_head_of_queuekits_is_refused(record):
    with pytest.raises(UnreadableRecordError):
        Codec().decode_job("k", record, state())


def test_lone_surrogates_are_refused_before_they_are_written():
    codec = Codec()
    with pytest.raises(NotSerializableError):
        codec.encode_value("result", "k", "\ud800")


def test_a_failure_comes_back_with_type_text_and_traceback():
    raw = encode_exception(KeyError("a"))
    failure = Codec().decode_failure(state(exception=raw, error=b"Traceback..."))
    assert (failure.type_name, failure.message, failure.traceback) == (
        "KeyError",
        "'a'",
        "Traceback...",
    )
    assert Codec().decode_failure(state()) is None
    import pickle  # noqa: PLC0415 (so that it can cross processes of the application's)

    again = pickle.loads(pickle.dumps(failure))
    assert isinstance(again, TaskFailure)
    assert again.message == "'a'"


def test_a_workers_name_is_its_address_without_the_mark_of_its_start():
    assert worker_name("abc") == "abc"
    assert worker_name("my~worker~x1") == "my~worker"
    assert worker_name(None) is None
