"""From the prepared case to a probability map on the scan's own grid.

`plan` chooses a strategy, `strategies` carry it out, `ladder` goes on with less when memory runs out, `mirroring` runs
the mirrored case too, `native` leads back to the scan. Imports `prepare`, `runtime`, `models` and `volume`.
"""

from __future__ import annotations

from strokeseg.predict.plan import Asked, check_asked
from strokeseg.predict.predict import Prediction, predict

__all__ = ["Asked", "Prediction", "check_asked", "predict"]
