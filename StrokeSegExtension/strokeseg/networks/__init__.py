"""Networks by name: `names()` lists them, `build(name, **arguments)` makes one.

Imports `strokeseg.errors`, and torch when a network is built.

A network takes a float batch (N, C, x, y, z) and gives logits: a tensor (N, K, x, y, z) where it has the one output
``lesion``, else a dictionary of them by name; `named` makes a dictionary of both. `form_of` says what fits into it.
"""

from __future__ import annotations

from strokeseg.networks.form import NetworkForm, form_of, named
from strokeseg.networks.registry import build, names
from strokeseg.networks.state import load_state

__all__ = ["NetworkForm", "build", "form_of", "load_state", "named", "names"]
