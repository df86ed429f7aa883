"""How a network is run over a volume: in one pass, by windows, or slice by slice.

One file a strategy. Each takes a `strokeseg.runtime.Runtime` and channels (C, x, y, z) on the model grid, and gives
named logits (1, K, x, y, z) there. Imports `runtime`.
"""

from __future__ import annotations

from strokeseg.predict.strategies.slices import slice_window, slices
from strokeseg.predict.strategies.whole import Told, unheard, whole
from strokeseg.predict.strategies.windows import MapTooLargeError, Size, Tiling, windows

__all__ = ["MapTooLargeError", "Size", "Tiling", "Told", "slice_window", "slices", "unheard", "whole", "windows"]
