"""What tests of several networks ask of each: its shapes without its numbers, and what both runtimes make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from strokeseg.models import ModelCard
from strokeseg.networks import build
from strokeseg.runtime import open_runtime


def shape_only(name: str, **arguments: Any) -> Any:
    """A network whose weights have shapes and no values."""
    with torch.device("meta"):
        return build(name, **arguments)


def lesion_logits_of_both(card: ModelCard, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Of OpenVINO, then of PyTorch, on one thread of the CPU: (N, K, x, y, z) each."""
    results = []
    for runtime in ("openvino", "torch"):
        opened = open_runtime(card, "cpu", runtime=runtime, threads=1)
        results.append(opened.run(batch)["lesion"])
        opened.close()
    return results
