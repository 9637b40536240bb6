"""Floor 5: looking for what breaks, and checking what was promised after each run."""

from queuekit.exploration.checkers import Watch as Watch
from queuekit.exploration.checkers import check as check
from queuekit.exploration.errors import ExplorationFailed as ExplorationFailed
from queuekit.exploration.errors import NotRepeatable as NotRepeatable
from queuekit.exploration.errors import Vacuous as Vacuous
from queuekit.exploration.explore import Exploration as Exploration
from queuekit.exploration.explore import explore as explore
from queuekit.exploration.failures import Failure as Failure
from queuekit.exploration.labels import LABELS as LABELS
from queuekit.exploration.ledger import Broken as Broken
from queuekit.exploration.living import Breach as Breach
from queuekit.exploration.living import Plan as Plan
from queuekit.exploration.living import Run as Run
from queuekit.exploration.living import Terms as Terms
from queuekit.exploration.living import run_once as run_once
from queuekit.exploration.properties import Simulated as Simulated
from queuekit.exploration.properties import simulations as simulations

__all__ = [
    "LABELS",
    "Breach",
    "Broken",
    "Exploration",
    "ExplorationFailed",
    "Failure",
    "NotRepeatable",
    "Plan",
    "Run",
    "Simulated",
    "Terms",
    "Vacuous",
    "Watch",
    "check",
    "explore",
    "run_once",
    "simulations",
]
