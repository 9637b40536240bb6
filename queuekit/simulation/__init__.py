"""Floor 4: a world in which time, scheduling, network and failures belong to the test."""

from queuekit.simulation.assertions import ANY as ANY
from queuekit.simulation.chooser import Deviation as Deviation
from queuekit.simulation.effects import Effect as Effect
from queuekit.simulation.errors import CallbackFailed as CallbackFailed
from queuekit.simulation.errors import FaultNeverFired as FaultNeverFired
from queuekit.simulation.errors import InvariantBroken as InvariantBroken
from queuekit.simulation.errors import JobsFailed as JobsFailed
from queuekit.simulation.errors import ProcessDied as ProcessDied
from queuekit.simulation.errors import ProcessFailed as ProcessFailed
from queuekit.simulation.errors import RefusedInSimulation as RefusedInSimulation
from queuekit.simulation.errors import ServersDisagree as ServersDisagree
from queuekit.simulation.errors import SimulationDeadlock as SimulationDeadlock
from queuekit.simulation.errors import SimulationError as SimulationError
from queuekit.simulation.errors import SimulationLivelock as SimulationLivelock
from queuekit.simulation.errors import TaskFailed as TaskFailed
from queuekit.simulation.errors import ThreadStuck as ThreadStuck
from queuekit.simulation.errors import VirtualTimeLimit as VirtualTimeLimit
from queuekit.simulation.faults import Fault as Fault
from queuekit.simulation.journal import JobRecord as JobRecord
from queuekit.simulation.observe import Draw as Draw
from queuekit.simulation.observe import Hold as Hold
from queuekit.simulation.observe import Hop as Hop
from queuekit.simulation.observe import Moment as Moment
from queuekit.simulation.observe import Step as Step
from queuekit.simulation.processes import SimulatedProcess as SimulatedProcess
from queuekit.simulation.processes import SimulatedWorker as SimulatedWorker
from queuekit.simulation.processes import busy as busy
from queuekit.simulation.world import Simulation as Simulation

__all__ = [
    "ANY",
    "CallbackFailed",
    "Deviation",
    "Draw",
    "Effect",
    "Fault",
    "FaultNeverFired",
    "Hold",
    "Hop",
    "InvariantBroken",
    "JobRecord",
    "JobsFailed",
    "Moment",
    "ProcessDied",
    "ProcessFailed",
    "RefusedInSimulation",
    "ServersDisagree",
    "SimulatedProcess",
    "SimulatedWorker",
    "Simulation",
    "SimulationDeadlock",
    "SimulationError",
    "SimulationLivelock",
    "Step",
    "TaskFailed",
    "ThreadStuck",
    "VirtualTimeLimit",
    "busy",
]
