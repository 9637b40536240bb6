"""Floor 5: looking for what breaks, and checking what was promised after each run."""

from queuekit.exploration.checkers import Watch as Watch
from queuekit.exploration.checkers import check as check
from queuekit.exploration.errors import ExplorationFailed as ExplorationFailed
from queuekit.exploration.errors import NotRepeatable as NotRepeatable
from queuekit.exploration.errors import Vacuous as Vacuous
from queuekit.exploration.exhaustive import Searched as Searched
from queuekit.exploration.explore import Exploration as Exploration
from queuekit.exploration.explore import explore as explore
from queuekit.exploration.failures import Failure as Failure
from queuekit.exploration.guard import assert_repeatable as assert_repeatable
from queuekit.exploration.labels import LABELS as LABELS
from queuekit.exploration.ledger import Broken as Broken
from queuekit.exploration.living import Breach as Breach
from queuekit.exploration.living import Plan as Plan
from queuekit.exploration.living import Run as Run
from queuekit.exploration.living import Terms as Terms
from queuekit.exploration.living import run_once as run_once
from queuekit.exploration.properties import Simulated as Simulated
from queuekit.exploration.properties import simulations as simulations
from queuekit.exploration.races import Race as Race
from queuekit.exploration.races import RaceFound as RaceFound
from queuekit.exploration.races import RaceSearch as RaceSearch
from queuekit.exploration.races import assert_no_race as assert_no_race
from queuekit.exploration.races import choose as choose
from queuekit.exploration.races import find_race as find_race
from queuekit.exploration.races import replay_race as replay_race
from queuekit.exploration.races import search_races as search_races

__all__ = [
    "LABELS",
    "Breach",
    "Broken",
    "Exploration",
    "ExplorationFailed",
    "Failure",
    "NotRepeatable",
    "Plan",
    "Race",
    "RaceFound",
    "RaceSearch",
    "Run",
    "Searched",
    "Simulated",
    "Terms",
    "Vacuous",
    "Watch",
    "assert_no_race",
    "assert_repeatable",
    "check",
    "choose",
    "explore",
    "find_race",
    "replay_race",
    "run_once",
    "search_races",
    "simulations",
]
