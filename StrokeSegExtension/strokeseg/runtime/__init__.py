"""What runs a model: a batch of channels in, named logits out. Imports `strokeseg.models` and `strokeseg.errors`."""

from __future__ import annotations

from strokeseg.runtime.base import Logits, Runtime, open_runtime

__all__ = ["Logits", "Runtime", "open_runtime"]
