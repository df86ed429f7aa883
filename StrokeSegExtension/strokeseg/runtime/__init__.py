"""What runs a model: a batch of channels in, named logits out.

`open_runtime` chooses and loads, `check_choice` only refuses; ``devices`` tells what is at hand. Imports
`strokeseg.models`, `strokeseg.networks` (the PyTorch runtime) and `strokeseg.errors`; the runtimes' libraries only when
one is opened.
"""

from __future__ import annotations

from strokeseg.runtime.base import Accumulator, Logits, Note, NumpyAccumulator, NumpyRuntime, Runtime
from strokeseg.runtime.choice import check_choice, open_runtime
from strokeseg.runtime.kept import KeptRuntimes

__all__ = [
    "Accumulator",
    "KeptRuntimes",
    "Logits",
    "Note",
    "NumpyAccumulator",
    "NumpyRuntime",
    "Runtime",
    "check_choice",
    "open_runtime",
]
