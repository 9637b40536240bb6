"""Floor 5: looking for what breaks, and checking what was promised after each run."""

from queuekit.exploration.checkers import Watch as Watch
from queuekit.exploration.checkers import check as check
from queuekit.exploration.labels import LABELS as LABELS
from queuekit.exploration.ledger import Broken as Broken

__all__ = ["LABELS", "Broken", "Watch", "check"]
