"""`segment` and `Segmentation`: the engine's main job, from a case to a result that can be looked at and saved.

Puts `prepare`, `predict`, `postprocess`, `lesions`, `report` and `results` together: `run` leads the case through them,
`summary` says what summary.json holds, `result` writes. Nothing but `job`, `relabel` and whoever uses the engine
imports it.
"""

from __future__ import annotations

from strokeseg.segmentation.result import Segmentation
from strokeseg.segmentation.run import choose_model, segment

__all__ = ["Segmentation", "choose_model", "segment"]
