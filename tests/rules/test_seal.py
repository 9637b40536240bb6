"""Signatures: no record can be passed off as another one, nor be changed."""

from __future__ import annotations

import hmac

import pytest

from queuekit.errors import SignatureError, UnreadableRecordError
from queuekit.job import Job
from queuekit.store.codec import STATE_FIELDS, Codec
from queuekit.store.seal import Seal
from tests.rules.refusals import in_three_parts

OLD, NEW = "an old secret of 16+", b"a new secret of 16+ bytes"
HEAD = b"an-id 5\n"
RAW = b'{"v":1,"function":"f"}'


def refusal(seal, record, *, kind="call", key="k"):
    with pytest.raises(SignatureError) as caught:
        seal.open(kind, key, record)
    in_three_parts(caught.value)
    assert isinstance(caught.value, UnreadableRecordError)
    return str(caught.value)


def test_without_keys_nothing_is_signed_and_nothing_asked_for():
    seal = Seal("q")
    assert seal.close("call", "k", RAW) == seal.open("call", "k", RAW) == RAW


def test_what_is_signed_is_accepted_with_the_same_key_as_text_or_bytes():
    assert (
        Seal("q", [OLD]).open("call", "k", Seal("q", OLD.encode()).close("call", "k", RAW)) == RAW
    )


@pytest.mark.parametrize("raw", [b"", b"\x00", RAW, b"hmac-sha256:" + b"0" * 64 + b":x"])
def test_any_bytes_can_be_signed(raw):
    seal = Seal("q", [OLD])
    assert seal.open("meta", "ü", seal.close("meta", "ü", raw)) == raw


def test_keys_change_in_three_steps_without_one_record_refused():
    """First the new one at the end everywhere, then in front, then the old one goes."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for writers, readers in ((0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)):
        record = Seal("q", steps[writers]).close("call", "k", RAW)
        assert Seal("q", steps[readers]).open("call", "k", record) == RAW
    leftover = Seal("q", steps[0]).close("call", "k", RAW)
    assert "signed with a key that is not known here" in refusal(Seal("q", steps[3]), leftover)


def test_an_unsigned_record_is_refused_by_who_has_keys():
    assert "is not signed" in refusal(Seal("q", [OLD]), RAW)
    assert "is not signed" in refusal(Seal("q", [OLD]), b"")


def test_a_signed_record_is_refused_by_who_has_no_keys():
    assert "a key that is not known here" in refusal(
        Seal("q"), Seal("q", [OLD]).close("call", "k", RAW)
    )


@pytest.mark.parametrize(
    ("queue", "kind", "key"),
    [
        ("other", "call", "k"),
        ("q", "result", "k"),
        ("q", "meta", "k"),
        ("q", "call", "other"),
        ("q", "call", ""),
        ("", "call", "qk"),
        ("qcall", "", "k"),
    ],
)
def test_a_record_moved_to_another_queue_kind_or_key_is_refused(queue, kind, key):
    record = Seal("q", [OLD]).close("call", "k", RAW)
    refusal(Seal(queue, [OLD]), record, kind=kind, key=key)


def test_no_bit_of_a_record_can_be_changed():
    seal = Seal("q", [OLD])
    record = seal.close("call", "k", RAW)
    accepted = []
    for position in range(len(record)):
        for bit in range(8):
            spoilt = bytearray(record)
            spoilt[position] ^= 1 << bit
            try:
                seal.open("call", "k", bytes(spoilt))
            except SignatureError:
                continue
            accepted.append((position, bit))
    separator = len(b"hmac-sha256:") + 64
    assert {position for position, _ in accepted} <= {separator}, "the colon says nothing"
    for length in range(len(record)):
        refusal(seal, record[:length])
    refusal(seal, record + b" ")


def test_signatures_are_compared_in_constant_time(monkeypatch):
    compared = []
    genuine = hmac.compare_digest

    def compare(a, b):
        compared.append((a, b))
        return genuine(a, b)

    seal = Seal("q", [OLD, NEW])
    record = seal.close("call", "k", RAW)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    seal.open("call", "k", record)
    refusal(seal, record[:-1])
    assert len(compared) == 3


def test_call_meta_and_result_are_signed_each_as_what_it_is():
    codec = Codec(seal=Seal("q", [OLD]))
    job = Job("f", key="k", meta={"a": 1})
    call = HEAD + codec.encode_call(job)
    meta, result = codec.encode_value("meta", "k", {"a": 2}), codec.encode_value("result", "k", 3)

    def decoded(**fields):
        return codec.decode_job("k", call, [fields.get(name) for name in STATE_FIELDS])

    assert (decoded(meta=meta).meta, decoded(result=result).result) == ({"a": 2}, 3)
    for spoilt in ({"meta": result}, {"result": meta}, {"result": b'{"value":3}'}, {"meta": b"{}"}):
        with pytest.raises(SignatureError):
            decoded(**spoilt)
    with pytest.raises(SignatureError):
        codec.decode_job("other", call, [None] * len(STATE_FIELDS))
