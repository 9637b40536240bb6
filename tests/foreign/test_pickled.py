"""Pickles are read as data: plain values come out, objects are told by their names, and nothing is called."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.foreign.pickled import Unread, read
from queuekit.simulation import Simulation, SimulationError

PROTOCOLS = range(3, pickle.HIGHEST_PROTOCOL + 1)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.dates()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.slow
@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_a_plain_value_comes_out_as_it_went_in(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sets_and_what_comes_twice_come_out_too(protocol):
    twice = ["a", "a"]
    value = {"set": {1, 2}, "frozen": frozenset("ab"), "l": [twice, twice], "m": datetime.now(UTC)}
    assert read(pickle.dumps(value, protocol)) == value


def test_dates_of_a_simulation_are_dates():
    def dumped():
        return pickle.dumps((datetime(2030, 1, 2), date(2030, 1, 2)))  # noqa: DTZ001

    async def main(simulation):
        return dumped()

    with Simulation() as simulation:
        written = simulation.run(main(simulation))
    assert read(written) == read(dumped()) == (datetime(2030, 1, 2), date(2030, 1, 2))  # noqa: DTZ001


class Order:
    def __init__(self, number):
        self.number = number


class Lines(list):
    """Filled behind its making."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_is_told_by_its_name_and_what_it_is_made_of(protocol):
    unread = read(pickle.dumps([Order(7), Lines("ab"), Order, ValueError("no")], protocol))
    assert unread == [
        Unread(f"{__name__}.Order", (), {"number": 7}),
        Unread(f"{__name__}.Lines", (), None, ("a", "b")),
        Unread(f"{__name__}.Order"),
        Unread("builtins.ValueError", ("no",)),
    ]
    assert repr(unread[3]) == "ValueError('no')"


class Attack:
    def __reduce__(self):
        return os.mkdir, (os.environ["QUEUEKIT_ATTACK"],)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_in_a_pickle_is_called(protocol, tmp_path, monkeypatch):
    victim = tmp_path / "made"
    monkeypatch.setenv("QUEUEKIT_ATTACK", str(victim))
    record = pickle.dumps(Attack(), protocol)
    assert read(record) == Unread(f"{os.name}.mkdir", (str(victim),))
    assert not victim.exists()
    pickle.loads(record)
    assert victim.exists()


@pytest.mark.parametrize(
    "record",
    [b"", b"{}", b'{"a": 1}', b"\x80\x04", b"\x80\x04.", b"\x80\x04K\x01\x86.", b"\x80\x04h\x05."],
)
def test_what_is_no_pickle_is_refused_with_words(record):
    with pytest.raises(SimulationError, match=r"cannot be read as a pickle(.|\n)*load="):
        read(record)


def test_numbers_and_spans_come_out():
    assert read(pickle.dumps((Decimal("1.5"), timedelta(3), 1 << 70, 2j))) == (
        Decimal("1.5"),
        timedelta(3),
        1 << 70,
        2j,
    )
