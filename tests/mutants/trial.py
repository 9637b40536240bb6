"""One life of a story: choices and misfortunes by a seed, then peace, and what was promised is checked."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from queuekit.exploration.checkers import Watch
from queuekit.simulation import Simulation

SCHEDULES = ("fifo", "random", "pct")

PATIENCE_S = 600.0
"Virtual time in which all jobs must have ended when everything is well again."

STORY_LIMIT_S = 3600.0
"Virtual time that a story takes at most; behind it, whoever waits waits in vain."

STEPS_PER_INSTANT = 20_000
"A healthy story needs some hundred."

Story = Callable[[Simulation], Awaitable[None]]


@dataclass(frozen=True)
class Found:
    """A promise that did not hold."""

    promise: str
    what: str


def live(story: Story, seed: int, *, backend: str = "fakeredis") -> Found | None:
    """The first promise that the story breaks with this seed; 0 is first in first out, without misfortune."""
    schedule = SCHEDULES[seed % 3]
    jitter = "full" if seed % 2 else "upper"
    with Simulation(
        seed=seed,
        schedule=schedule,
        jitter=jitter,
        backend=backend,
        steps_per_instant=STEPS_PER_INSTANT,
    ) as simulation:
        watch = Watch(simulation)
        simulation.environment.idle_wait_s = lambda: 5.0
        if seed:
            simulation.chooser.draw(["choose"])
            Misfortune(
                simulation, f"{getattr(story, '__name__', story)} {seed}", aimed=seed % 4 != 0
            )
        logging.disable(logging.CRITICAL)
        try:
            simulation.run(_lived(simulation, story, watch))
        except AssertionError as error:
            broken = watch.broken()
            if broken:
                return Found(broken[0].promise, str(broken[0]))
            return Found("story", str(error) or "an assertion of the story's")
        except Exception as error:
            broken = watch.broken()
            if broken:
                return Found(broken[0].promise, str(broken[0]))
            return Found("P10", f"{type(error).__name__}: {error}")
        finally:
            logging.disable(logging.NOTSET)
        broken = watch.broken()
        return Found(broken[0].promise, str(broken[0])) if broken else None


async def _lived(simulation: Simulation, story: Story, watch: Watch) -> None:
    told = asyncio.ensure_future(story(simulation))  # type: ignore[arg-type]
    limit = asyncio.get_running_loop().time() + STORY_LIMIT_S
    healed = False
    while not told.done():
        now = asyncio.get_running_loop().time()
        if now >= limit:
            told.cancel()
            raise AssertionError(f"after {STORY_LIMIT_S:g} s the story still waits")
        if not healed and now >= 60:
            _heal(simulation)
            healed = True
        await asyncio.wait([told], timeout=60)
    told.result()
    _heal(simulation)
    waited_for = set(watch.unfinished())  # of schedules there are always new ones
    for _ in range(int(PATIENCE_S / 10)):
        await simulation.advance(10)
        waited_for &= set(watch.unfinished())
        if not waited_for or watch.unchecked or watch.broken():
            return
    raise AssertionError(f"P1: {sorted(waited_for)} did not end within {PATIENCE_S:g} s of peace")


def _heal(simulation: Simulation) -> None:
    simulation.heal()
    terminated = [words for _, words in simulation.faults.struck if words == "terminate"]
    for worker in simulation.workers() if terminated else ():
        if worker.alive and not worker.running:
            worker.restart()


class Misfortune:
    """What goes wrong with a seed: a few strikes that are aimed at commands, or a swarm of small chances."""

    MOST = 6
    "Strikes of a swarm: in a world that is nothing but misfortune nobody gets far."

    def __init__(self, simulation: Simulation, seed: str, *, aimed: bool) -> None:
        self._chance = random.Random(f"misfortune {seed}")
        self._left = self.MOST
        self._rates: dict[str, float] = {}
        self._aims: list[tuple[str, str, str, int]] = []
        self._met: Counter[tuple[str, str]] = Counter()
        if aimed:
            self._aim()
        else:
            kinds = [kind for kind in RATES if self._chance.random() < 0.4]
            self._rates = {
                kind: RATES[kind] * self._chance.choice((0.3, 1.0, 3.0)) for kind in kinds
            }
        simulation.faults.by_chance = self.drawn
        simulation.faults.watch_hops()

    def _aim(self) -> None:
        for _ in range(self._chance.choice((1, 2, 3))):
            kind, command = self._chance.choice(AIMS).split(" at ")
            side = SIDES.get(kind) or self._chance.choice(("request", "reply"))
            nth = self._chance.choice((0, 0, 1, 2, 3, 5, 8))
            self._aims.append((kind, command, side, nth))

    def drawn(self, hop: Any, process: Any) -> tuple[str, dict[str, Any]] | None:
        """What befalls this hop."""
        place = (hop.command, hop.direction)
        self._met[place] += 1
        for kind, command, side, nth in self._aims:
            if (command, side) != place or not self._left:
                continue
            if nth == self._met[place] or (not nth and self._chance.random() < OFTEN):
                return self._struck(kind, process)
        for kind, rate in self._rates.items():
            if SIDES.get(kind, hop.direction) != hop.direction or not self._left:
                continue
            if self._chance.random() < rate:
                return self._struck(kind, process)
        return None

    def _struck(self, kind: str, process: Any) -> tuple[str, dict[str, Any]] | None:
        if kind in OF_WORKERS and not process.name.startswith("worker"):
            return None
        self._left -= 1
        return kind, ARGUMENTS[kind](self._chance)


AIMS = tuple(
    f"{kind} at {command}"
    for kind, commands in {
        "lose_reply": "enqueue enqueue claim claim commit commit abort cron update renew BLPOP",
        "lose_request": "enqueue claim commit renew",
        "kill": "claim claim commit commit renew expired cron BLPOP",
        "pause": "claim claim commit commit renew expired cron update",
        "partition": "claim commit renew BLPOP",
        "delay": "claim commit renew abort cron",
        "outage": "claim commit",
        "error": "commit renew",
    }.items()
    for command in commands.split()
)
"Kinds of fault at the commands where they do most harm."

OFTEN = 0.3
"The chance of each command that a strike is aimed at, when it is not one of them alone."

RATES = {
    "lose_reply": 0.02,
    "lose_request": 0.01,
    "kill": 0.01,
    "pause": 0.01,
    "partition": 0.01,
    "delay": 0.02,
    "error": 0.01,
    "outage": 0.003,
    "terminate": 0.003,
    "flush_scripts": 0.005,
    "skew": 0.01,
}

SIDES = {"lose_reply": "reply", "lose_request": "request", "error": "request"}

OF_WORKERS = {"kill", "pause", "partition", "terminate", "skew"}

ARGUMENTS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "lose_reply": lambda chance: {"how": "reset"},
    "lose_request": lambda chance: {"how": "reset"},
    "kill": lambda chance: {"restart_after": chance.choice((0.5, 5, 20))},
    "pause": lambda chance: {"seconds": chance.choice((1, 7, 20))},
    "partition": lambda chance: {
        "seconds": chance.choice((1, 5, 20)),
        "direction": chance.choice(("both", "requests", "replies")),
    },
    "delay": lambda chance: {"seconds": chance.choice((0.01, 0.5, 3, 8))},
    "error": lambda chance: {
        "error": chance.choice(("LOADING", "BUSY", "OOM", "READONLY", "NOSCRIPT"))
    },
    "outage": lambda chance: {"seconds": chance.choice((1, 5, 15))},
    "terminate": lambda chance: {},
    "flush_scripts": lambda chance: {},
    "skew": lambda chance: {"seconds": chance.choice((-60, 60))},
}
