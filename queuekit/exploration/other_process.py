"""The other side of `elsewhere.py`: a process that lives through the runs that it is told.

python -m queuekit.exploration.other_process DESCRIPTOR
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from queuekit.exploration.elsewhere import Asked, Told
from queuekit.exploration.failures import explored_by
from queuekit.exploration.living import run_once
from queuekit.exploration.silence import silent
from queuekit.simulation.scenario import Scenario


def serve(descriptor: int) -> None:
    """Answer until nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who has started us
    lines: list[str] = []
    with Connection(descriptor) as connection, silent():
        while True:
            try:
                asked: Asked | None = connection.recv()
            except EOFError:
                return
            if asked is None:
                connection.send(lines)
            else:
                lines.clear()
                connection.send(_lived(asked, lines))


def _lived(asked: Asked, lines: list[str]) -> Told:
    os.chdir(asked.folder)
    sys.path[:] = asked.paths
    place = Path(asked.folder) / "asked"
    try:
        story, terms = explored_by(Scenario(place, asked.story, {}, exploring=asked.fields))
        run = run_once(story, asked.plan, terms, sink=lines.append)
    except (Exception, SystemExit) as error:  # told to who has asked; here nobody is
        return Told("", f"{type(error).__name__}: {error}")
    return Told(run.trace)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
