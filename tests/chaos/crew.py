"""The worker processes: started, killed, stopped, continued, and replaced when they end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from pathlib import Path

from tests.chaos.evidence import Reader
from tests.chaos.form import Form
from tests.chaos.processes import end, spawn_module

LOOK_AGAIN_S = 0.1


class Crew:
    """As many workers as the form asks for, always."""

    def __init__(self, peer: str, form: Form, url: str, folder: Path, reader: Reader) -> None:
        self._peer, self._form, self._url, self._folder = peer, form, url, folder
        self._reader = reader
        self.alive: dict[str, subprocess.Popen[bytes]] = {}
        self.stopped: dict[str, None] = {}
        self.killed: dict[str, None] = {}
        "Names of those that were killed, for the report."
        self.ended_by_themselves: dict[str, int] = {}
        "Name and exit code of those that ended although nobody told them to."
        self._started = 0

    def start(self) -> None:
        """All of them."""
        for _ in range(self._form.workers):
            self._start_one()

    def _start_one(self) -> None:
        name = f"w{self._started}"
        skew_s = (0.0, self._form.skew_s, -self._form.skew_s)[self._started % 3]
        self._started += 1
        options = {
            "--peer": self._peer,
            "--url": self._url,
            "--name": name,
            "--evidence": str(self._folder / "evidence"),
            "--lease-s": str(self._form.lease_s),
            "--concurrency": str(self._form.concurrency),
        }
        words = [word for option in options.items() for word in option]
        # One word: a negative number would be taken for an option.
        words.append(f"--skew-s={skew_s}")
        self.alive[name] = spawn_module("tests.chaos.worker", words, self._folder / f"{name}.log")

    async def supervise(self) -> None:
        """Replace whoever ends."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            for name, process in list(self.alive.items()):
                if process.poll() is not None:
                    del self.alive[name]
                    self.ended_by_themselves[name] = process.returncode
                    self._start_one()

    def choose(self, chance: random.Random) -> str | None:
        """One that is not stopped, at work if there is any such."""
        up = [name for name in self.alive if name not in self.stopped]
        busy = [name for name in up if self._reader.open.get(name)]
        return chance.choice(busy or up) if up else None

    def kill(self, name: str) -> None:
        """Kill one and start another."""
        end(self.alive.pop(name))
        self.killed[name] = None
        self._start_one()

    def stop(self, name: str) -> None:
        os.kill(self.alive[name].pid, signal.SIGSTOP)
        self.stopped[name] = None

    def go_on(self, name: str) -> None:
        self.stopped.pop(name, None)
        os.kill(self.alive[name].pid, signal.SIGCONT)

    def close(self) -> None:
        for process in self.alive.values():
            end(process)
