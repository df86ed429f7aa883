"""What `overfit` changes of each recipe so that its network learns four patients by heart in minutes."""

from typing import Literal, NamedTuple

Task = Literal["dwi-adc", "t1"]


class Smaller(NamedTuple):
    """Of a recipe: what its patients are, how well it has to know them, and what is changed."""

    task: Task
    """Of the generator."""
    layout: str
    """In which `synthesize` writes them, for the recipe to read."""
    wanted: float
    """Dice."""
    settings: tuple[str, ...]
    """As for ``--set``."""
    least_ml: float = 5.0
    """Of lesion in each patient: one of three voxels says nothing about a network."""


# The set is small: one patient more goes to the side that is not used.
_COMMON = (
    "datasets.split={train: 0.8, val: 0, test: 0.2}", "augmentation=null", "validation.epochs=0",
    "validation.side=train", "validation.every=50", "validation.patience=0", "tensorboard=false", "data.flips=false",
    "data.workers=0", "precision=fp32", "checkpoint.every=100000", "log_every=25", "stages=[{steps: 100000}]",
)  # fmt: skip
_ATLAS = Smaller(
    "t1", "atlas-r1", 0.9,
    (
        # Whole volumes are scored: of slices that it never saw, without lesion, nothing can be known by heart.
        *_COMMON, "preparation.spacing_mm=[3,3,6]", "datasets.slices.size=[64,96]", "datasets.slices.which=brain",
        # Nothing normalises atlas-unet: without a slow beginning the Dice loss ends in background at once.
        "batch=4", "network.arguments={channels: [16, 32, 64, 64, 64]}", "schedule.warm_up=200", "gradient_clip=1",
        "schedule.rule=polynomial", "stages.0.steps=3000", "validation.every=200",
    ),
    least_ml=50.0,
)  # fmt: skip
# Published are thousands of steps at the recipes' learning rates; here there are a few hundred.
SMALLER = {
    "attention-unet-3d": Smaller(
        "dwi-adc", "isles22", 0.85,
        (
            *_COMMON, "preparation.spacing_mm=[4,4,4]", "preparation.margin_voxels=1",
            "datasets.patches.size=[32,32,32]", "card.window=[32,32,32]",
            "network.arguments={features: 8, dropout: 0.0}", "batch=2", "accumulation=1", "optimiser.lr=1e-2",
            "schedule.rule=constant",
        ),
    ),
    "mscs-net": Smaller(
        "dwi-adc", "isles22", 0.85,
        (
            *_COMMON, "preparation.spacing_mm=[4,4,6]", "datasets.patches.size=[48,48,16]", "card.window=[48,48,16]",
            "card.input_shape=[48,48,16]", "batch=2", "optimiser.lr=4e-3",
            "network.arguments={channels: [8, 8, 16, 32], units: [3, 6, 12, 24], pooled: 16, "
            "decoder_channels: [32, 16, 16, 8, 8], dropout: 0.0}",
        ),
    ),
    "segformer3d": Smaller(
        # Scars look like other fluid on T1 (Dice 0.35 after 300 steps): acute infarcts on DWI and ADC.
        "dwi-adc", "isles22", 0.85,
        (
            *_COMMON, "datasets.layout=isles22", "preparation.channels=[dwi_robust, adc_robust]",
            "card.inputs=[{role: dwi}, {role: adc}]", "card.reference_role=dwi", "datasets.patches.lesion_share=0.8",
            "preparation.spacing_mm=[1.5,1.5,1.5]", "network.arguments={in_channels: 2, decoder_width: 64}",
            "batch=2", "optimiser.lr=1e-3", "schedule.warm_up=50", "stages.0.steps=1500",
        ),
        # Tokens stand on every fourth voxel. In small lesions the outline is most of the volume: of patients with 5 ml
        # Dice was 0.80 on a grid of 1.5 mm, and 0.67 after 800 steps at 1 mm.
        least_ml=30.0,
    ),
    "lesion-net": Smaller(
        "dwi-adc", "isles22", 0.9,
        (
            *_COMMON, "preparation.spacing_mm=[2,2,4]", "datasets.slices.size=[96,96]", "batch=16",
            "network.arguments={width: 32, depths: [2, 2, 2, 2], heads: [2, 2, 2, 2], decoder_width: 32, "
            "drop_path: 0.0}",
            "optimiser.lr=1e-3",
        ),
    ),
    "dwi-adc-finetune": Smaller(
        "dwi-adc", "isles22", 0.9,
        (
            *_COMMON, "preparation.spacing_mm=[3,3,3]", "network.arguments.channels=[8,16,32,64]", "init_from=null",
            "data.generator=null", "data.bank=null", "data.real_share=null", "data.extra_voxels=0", "accumulation=1",
            "loss.tissue=0", "optimiser.lr=3e-3", "schedule.rule=constant",
        ),
    ),
    "atlas-unet": _ATLAS,
    # Without skips, and with a linear decoder: 0.897 after 3000 steps.
    "atlas-segnet": _ATLAS._replace(settings=(*_ATLAS.settings, "stages.0.steps=4500")),
    "atlas-resunet": _ATLAS,
}  # fmt: skip
# Added where the loss is named. A class that none of four slices has pulls its probability to 0 with a force that grows
# without end, and the softmax does not come back from there: nothing is found any more.
BY_LOSS = {"dice": ("objective.arguments.smooth=100",)}
# By the trio's three losses; one of each network first.
_TRIO = [f"{name}:{loss}" for loss in ("cce", "dice", "cce-dice") for name in SMALLER if name.startswith("atlas")]
EVERY_ONE = [*(name for name in SMALLER if not name.startswith("atlas")), *_TRIO]
