"""A world that begins where the ten years do, and whose idle workers do not look each hour."""

import pytest

from queuekit.simulation import Simulation
from tests.cron.test_ten_years import BEGIN, QUIET_S


@pytest.fixture
def simulation_of_ten_years(monkeypatch):
    with Simulation(seed=8, start=BEGIN) as simulation:
        monkeypatch.setattr(simulation.environment, "idle_wait_s", lambda: QUIET_S)
        yield simulation
