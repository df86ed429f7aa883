"""From the prepared case to a probability map on the scan's own grid.

Imports `prepare`, `runtime`, `models` and `volume`.
"""

from __future__ import annotations

from strokeseg.predict.predict import Prediction, predict

__all__ = ["Prediction", "predict"]
