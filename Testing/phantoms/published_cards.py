"""What the model cards of the published networks for slices say: axis, slice, grid, channels and classes.

The strategy ``slices`` cuts along the patient's S axis (axial), each slice as large as `input_shape`: the brain lies in
its middle, what is missing is 0, and a brain that is larger is covered by overlapping slices. Logits go back to the
scan's own grid by the engine's one interpolation.
"""

from typing import Any

_INFARCT = {"coding_scheme": "SCT", "code": "55641003", "meaning": "Infarct"}
_RED, _BLUE = [220, 50, 47], [0, 114, 178]

# 128 pixels cover the 224 mm that a usual field of view has, as where the network was published.
LESION_NET: dict[str, Any] = {
    "task": "acute ischaemic lesion",
    "inputs": [{"role": "dwi", "required": True}],
    "reference_role": "dwi",
    "preparation": {
        "spacing_mm": [1.75, 1.75, 2.0],
        "margin_voxels": 4,
        "multiple": 16,
        "channels": ["dwi_robust"],
    },
    "strategy": "slices",
    "input_shape": [128, 128, 1],
    "classes": [{"value": 1, "name": "acute ischaemic lesion", **_INFARCT, "colour": _RED}],
    "decision": {"rule": "threshold", "threshold": 0.5},
}

# The published decision, 0.5 on each class by itself, may leave a voxel without any; the highest class cannot.
_ATLAS: dict[str, Any] = {
    "task": "chronic stroke lesion",
    "inputs": [{"role": "t1", "required": True}],
    "reference_role": "t1",
    "preparation": {"spacing_mm": [1.0, 1.0, 1.0], "margin_voxels": 4, "multiple": 16, "channels": ["t1_zscore"]},
    "strategy": "slices",
    "input_shape": [192, 224, 1],
    "classes": [
        {"value": 1, "name": "main lesion", **_INFARCT, "colour": _RED},
        {"value": 2, "name": "sub-lesion", **_INFARCT, "colour": _BLUE},
    ],
    "decision": {"rule": "argmax"},
}
# Five poolings instead of four.
_ATLAS_SEGNET = {**_ATLAS, "preparation": {**_ATLAS["preparation"], "multiple": 32}}

PUBLISHED: dict[str, dict[str, Any]] = {
    "lesion-net": LESION_NET,
    "atlas-unet": _ATLAS,
    "atlas-segnet": _ATLAS_SEGNET,
    "atlas-resunet": _ATLAS,
}
"""Name of a network to the parts of its card."""


def published_card(network: str, arguments: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The fields of a card as they are given to the export; the model is called as its network.

    Args:
        network: One of `PUBLISHED`.
        arguments: What the network is built with.
        changes: Further fields, or other values for them.
    """
    return {
        "format": 1,
        "name": network,
        "title": f"Test model '{network}', not trained",
        "version": "0.0.1",
        "status": "experimental",
        "network": network,
        "network_arguments": arguments or {},
        "temperature": 1.0,
        "minimum_lesion_ml": 0.0,
        "origin": {"recipe": "none", "data": "none: random or hand-set weights", "licence": "Apache-2.0"},
        "measured": [],
        "intended_use": "Tests of the program only.",
        "limits": ["It finds nothing that means anything."],
        **PUBLISHED[network],
        **changes,
    }
