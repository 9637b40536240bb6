"""Floor 6: what a simulation knows of the jobs of other queues than ours."""

from queuekit.foreign.jobs import ForeignJob as ForeignJob

__all__ = ["ForeignJob"]
