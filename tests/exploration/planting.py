"""Defects for a checker to find, planted in the scripts as they are loaded; and lives lived under watch."""

from __future__ import annotations

import contextlib

from queuekit.exploration.checkers import Watch
from queuekit.simulation import Simulation, SimulationLivelock
from queuekit.store import scripts


class Planted:
    """Scripts with other texts; each change must find what it changes."""

    def __init__(self, monkeypatch):
        self._changes = []
        self._loaded = {}
        self._load = scripts.load
        monkeypatch.setattr(scripts, "load", self._load_planted)

    def __call__(self, old, new, *, script=None):
        """In one script, or in the prelude of all, replace a text."""
        self._changes.append((script, old, new))
        self._loaded.clear()
        assert old in self._load(script or "claim").text, f"{old!r} is not in the script any more"

    def _load_planted(self, name):
        if name not in self._loaded:
            loaded = self._load(name)
            text = loaded.text
            for script, old, new in self._changes:
                if script in (None, name):
                    text = text.replace(old, new)
            self._loaded[name] = scripts.Script(name, text, scripts.sha_of(text))
        return self._loaded[name]


def live(story, **options):
    """The world after a story, and the promises that it broke."""
    with Simulation(**{"seed": 5, "steps_per_instant": 10_000, **options}) as simulation:
        watch = Watch(simulation)
        with contextlib.suppress(SimulationLivelock):  # a defect may turn workers in circles
            simulation.run(story(simulation))
        broken = watch.broken()
        assert watch.unchecked == {}
    return simulation, broken


def broken_by(story, **options):
    """The promises that a story broke, without the words."""
    return {each.promise for each in live(story, **options)[1]}
