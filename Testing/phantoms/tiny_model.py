"""Tiny model folders for tests, made by the export itself; nothing of them is trained and none is shipped.

`make_tiny_model`: a freshly initialised residual U-Net. `make_linear_model`: 1x1x1 convolutions that compute
``dwi_ratio - 1.5 * adc``. `make_convolution_model`: convolutions alone, without normalisation, of a known reach.
"""

from pathlib import Path
from typing import Any

LINEAR_WEIGHTS = (1.0, -1.5)
CONVOLUTION_REACH_VOXELS = 3
# One level down at stride 1: convolution, convolution, skip joined, convolution. With a slope of 1 on both sides the
# activation changes nothing.
_FLAT = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 1,
    "channels": [2, 2],
    "strides": [1],
    "kernel_size": 1,
    "up_kernel_size": 1,
    "num_res_units": 0,
    "norm": None,
    "act": ["LEAKYRELU", {"negative_slope": 1.0}],
}


def tiny_card(
    name: str = "tiny",
    *,
    network: str = "residual-unet",
    arguments: dict[str, Any] | None = None,
    channels: tuple[str, ...] = ("dwi_ratio", "adc"),
    spacing_mm: float | None = 4.0,
    multiple: int = 4,
    **changes: Any,
) -> dict[str, Any]:
    """The fields of a card as they are given to the export.

    Args:
        name: Of the model.
        network: Of the network.
        arguments: What the network is built with.
        channels: Input channels.
        spacing_mm: Voxel size of the model grid along every axis; None: the scan's own grid.
        multiple: Axes are padded to a multiple of this.
        changes: Further fields, or other values for them.
    """
    card = {
        "format": 1,
        "name": name,
        "title": f"Test model '{name}', not trained",
        "version": "0.0.1",
        "status": "experimental",
        "task": "none: for tests",
        "inputs": [{"role": "dwi", "required": True}, {"role": "adc", "required": True}],
        "reference_role": "dwi",
        "preparation": {
            "spacing_mm": [] if spacing_mm is None else [spacing_mm] * 3,
            "margin_voxels": 2,
            "multiple": multiple,
            "channels": list(channels),
        },
        "network": network,
        "network_arguments": arguments or {},
        "strategy": "whole",
        "classes": [
            {
                "value": 1,
                "name": "acute ischaemic lesion",
                "coding_scheme": "SCT",
                "code": "55641003",
                "meaning": "Infarct",
                "colour": [220, 50, 47],
            }
        ],
        "decision": {"rule": "threshold", "threshold": 0.5},
        "temperature": 1.0,
        "minimum_lesion_ml": 0.0,
        "origin": {"recipe": "none", "data": "none: random or hand-set weights", "licence": "Apache-2.0"},
        "measured": [],
        "intended_use": "Tests of the program only.",
        "limits": ["It finds nothing that means anything."],
    }
    return {**card, **changes}


def make_tiny_model(
    folder: Path,
    *,
    name: str = "tiny",
    seed: int = 0,
    channels: tuple[int, ...] = (4, 8, 8),
    tissue: bool = False,
    spacing_mm: float | None = 4.0,
    **changes: Any,
) -> Any:
    """A residual U-Net with random weights; returns its card (`strokeseg.models.ModelCard`).

    Args:
        folder: The model folder to make; its last part should be `name`.
        name: Of the model.
        seed: Of the weights.
        channels: Of the levels of the network.
        tissue: With the second output ``tissue``.
        spacing_mm: See `tiny_card`.
        changes: Other fields of the card.
    """
    from strokeseg.networks import build, form_of
    from strokeseg_training.export import export_model

    arguments = {"in_channels": 2, "out_channels": 1, "channels": list(channels), "tissue": tissue}
    network = _seeded(lambda: build("residual-unet", **arguments), seed)
    card = tiny_card(name, arguments=arguments, spacing_mm=spacing_mm, multiple=form_of(network).multiple, **changes)
    return export_model(network, card, folder).card


def make_linear_model(
    folder: Path, *, name: str = "linear", spacing_mm: float | None = None, offset: float = 0.0, **changes: Any
) -> Any:
    """A network whose logit is ``dwi_ratio - 1.5 * adc + offset`` in every voxel, exactly; returns its card.

    Args:
        folder: The model folder to make.
        name: Of the model.
        spacing_mm: See `tiny_card`.
        offset: Added to every logit; a number that half precision holds.
        changes: Other fields of the card.
    """
    import torch

    from strokeseg.networks import build
    from strokeseg_training.export import export_model

    network = build("monai:UNet", **_FLAT)
    first, second, joined = (m for m in network.modules() if isinstance(m, torch.nn.Conv3d | torch.nn.ConvTranspose3d))
    with torch.no_grad():
        for convolution in (first, second, joined):
            convolution.weight.zero_()
            convolution.bias.zero_()
        first.weight[0, 0] = first.weight[1, 1] = 1.0
        # The skip's two channels come first, then the two of the deeper level, which count nothing.
        joined.weight[:2, 0, 0, 0, 0] = torch.tensor(LINEAR_WEIGHTS)
        joined.bias.fill_(offset)
    card = tiny_card(name, network="monai:UNet", arguments=_FLAT, spacing_mm=spacing_mm, multiple=1, **changes)
    return export_model(network, card, folder).card


def make_convolution_model(
    folder: Path, *, name: str = "convolution", seed: int = 0, spacing_mm: float | None = None, **changes: Any
) -> Any:
    """Three 3x3x3 convolutions without normalisation; a voxel sees `CONVOLUTION_REACH_VOXELS` to every side.

    Args:
        folder: The model folder to make.
        name: Of the model.
        seed: Of the weights.
        spacing_mm: See `tiny_card`.
        changes: Other fields of the card.
    """
    from strokeseg.networks import build
    from strokeseg_training.export import export_model

    arguments = {**_FLAT, "kernel_size": 3, "up_kernel_size": 3, "act": ["LEAKYRELU", {"negative_slope": 0.1}]}
    network = _seeded(lambda: build("monai:UNet", **arguments), seed)
    card = tiny_card(name, network="monai:UNet", arguments=arguments, spacing_mm=spacing_mm, multiple=1, **changes)
    return export_model(network, card, folder).card


def _seeded(make: Any, seed: int) -> Any:
    """What `make` makes with torch's random numbers at `seed`; the caller's own go on as if nothing had been."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
