"""From a case to what a model sees: checked, in the engine's units, on the reference grid, with the brain found.

Applies what `strokeseg.checks` finds. Imports `case`, `volume`, `checks`, `symmetry` and `models`' cards.
"""

from __future__ import annotations

from strokeseg.prepare.brain import BrainMask
from strokeseg.prepare.grid import ModelGrid
from strokeseg.prepare.prepare import Prepared, prepare

__all__ = ["BrainMask", "ModelGrid", "Prepared", "prepare"]
