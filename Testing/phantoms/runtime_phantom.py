"""A tiny network as a model folder, with a graph whose weights lie in ``weights.safetensors``."""

import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from strokeseg.models import parse_card

ARGUMENTS = {"in_channels": 2, "out_channels": 1, "channels": [4, 8], "tissue": True}
FILES = ("weights.safetensors", "network.onnx")


def write_model(folder: Path, *, tissue=True, **changes):
    """A model folder with a residual U-Net, its card, and both forms of it."""
    folder.mkdir(parents=True)
    for name, content in _exported(tissue).items():
        (folder / name).write_bytes(content)
    outputs = ["lesion", "tissue"] if tissue else ["lesion"]
    arguments = {**ARGUMENTS, "tissue": tissue}
    return write_card(folder, network="residual-unet", network_arguments=arguments, outputs=outputs, **changes)


def write_card(folder: Path, files=FILES, **changes):
    """Write card.json for the files as they are now, and read it."""
    data = {
        "format": 1,
        "name": folder.name,
        "title": "Tiny",
        "version": "1",
        "status": "experimental",
        "task": "test",
        "inputs": [{"role": "dwi", "required": True}, {"role": "adc", "required": True}],
        "reference_role": "dwi",
        "preparation": {
            "spacing_mm": [2.0, 2.0, 2.0],
            "margin_voxels": 2,
            "multiple": 2,
            "channels": ["dwi_ratio", "adc"],
        },
        "network": "residual-unet",
        "network_arguments": {},
        "outputs": ["lesion"],
        "runtime": "openvino",
        "strategy": "whole",
        "classes": [
            {
                "value": 1,
                "name": "Infarct",
                "coding_scheme": "SCT",
                "code": "55641003",
                "meaning": "Infarct",
                "colour": [200, 0, 0],
            }
        ],
        "decision": {"rule": "threshold", "threshold": 0.5},
        "minimum_lesion_ml": 0.0,
        "files": [entry(folder / name) for name in files],
        "origin": {"data": "none"},
        "measured": [],
        "intended_use": "tests",
        "limits": ["knows nothing"],
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(data), encoding="utf-8")
    return parse_card(data, folder)


def entry(path: Path):
    """A file as the card lists it."""
    content = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def batch(shape=(1, 2, 16, 12, 10), seed=0):
    """Random channels, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@cache
def _exported(tissue: bool) -> dict[str, bytes]:
    """The files of a residual U-Net with random weights, made by the export itself; once, it takes a second."""
    import tiny_model

    with TemporaryDirectory() as place:
        folder = Path(place) / "tiny"
        tiny_model.make_tiny_model(folder, channels=(4, 8), tissue=tissue)
        return {name: (folder / name).read_bytes() for name in FILES}
