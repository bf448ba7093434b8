"""Multi-scale transforms and the rules that fuse their bands."""

from . import rules
from .bands import Bands
from .curvelet import Curvelet
from .laplacian import LaplacianPyramid

__all__ = ["Bands", "Curvelet", "LaplacianPyramid", "rules"]
