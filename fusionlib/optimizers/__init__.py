"""The search for the low-pass weight: the objective, two swarms, and the exact optimum."""

from .bat import bat
from .objective import LowPassObjective
from .particle_swarm import particle_swarm
from .result import Result
from .sweep import sweep

__all__ = ["LowPassObjective", "Result", "bat", "particle_swarm", "sweep"]
