"""Outside of a simulation an effect is nothing, whether it is awaited or not."""

import sys

import pytest

from queuekit import effect
from tests.house.test_floors import run_python


def test_an_effect_in_production_does_nothing():
    assert effect("charged", order=42) is effect("sent")

    async def awaited():
        return await effect("charged", order=42)

    with pytest.raises(StopIteration) as ended:
        awaited().send(None)
    assert ended.value.value is None


def test_an_effect_loads_nothing_of_the_simulation():
    code = "import sys; from queuekit import effect; effect('a'); print('queuekit.simulation' in sys.modules)"
    assert run_python(code).strip() == "False"
    assert "queuekit" in sys.modules
