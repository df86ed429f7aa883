"""The synthetic patient of ``Resources/Samples``: DWI, b0, ADC, T1 and the acute lesions known to be in them.

Drawn by the generator on a 1 mm lattice and scanned twice: tilted slices of 3 mm for diffusion, 1 mm voxels for T1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg.volume.grid import Affine, Grid
from strokeseg.volume.writing import write_nifti
from strokeseg_training.generator._tissue import altered_fractions
from strokeseg_training.generator.anatomy import Anatomy, make_anatomy
from strokeseg_training.generator.distractors import make_distractors
from strokeseg_training.generator.lesions import Lesions, make_lesions
from strokeseg_training.generator.physics import diffusion_signals, t1_signal
from strokeseg_training.generator.scene import GENERATOR_VERSION, GRIDS, Scene
from strokeseg_training.generator.susceptibility import pile_up
from strokeseg_training.generator.template import load_template
from strokeseg_training.sample_design import Design
from strokeseg_training.sample_scan import rician, slice_sample, stripped, tilted_grid
from strokeseg_training.synthetic_notice import STATEMENT, TEMPLATE_NOTICE

COMMAND = "strokeseg-train synthesize --sample --out Resources/Samples/synthetic-patient"
LATTICE_MM = 1.0
DWI_SHAPE, DWI_SPACING_MM = (128, 128, 50), (1.8, 1.8, 3.0)
# Slices are tilted as planned along the skull base, voxel x runs to the patient's left as on most scanners.
DWI_TILT_DEG = (7.0, 0.0, 1.5)
# White matter at b = 1000 over the noise of one channel.
SNR = 25.0
# Counts of the stored images: noise spans several of them, so that rounding adds nothing visible.
DWI_COUNTS_PER_NOISE = 5.0
T1_COUNTS_PER_NOISE = 2.0
T1_NOISE = 0.035
ADC_STEP = 0.005
_COMPRESSION = 9


@dataclass(frozen=True, eq=False)
class SampleCase:
    """The images of the sample patient.

    Args:
        dwi, b0: (x, y, z) int16 counts, trace images with and without diffusion weighting.
        adc: (x, y, z) float32, 1e-3 mm²/s in steps of `ADC_STEP`.
        lesions: (x, y, z) uint8, acute infarcts.
        t1: (x, y, z) int16 counts on its own grid.
        affine, t1_affine: 4x4, voxel index to RAS mm.
        description: The content of ``sample.json``.
    """

    dwi: NDArray[np.int16]
    b0: NDArray[np.int16]
    adc: NDArray[np.float32]
    lesions: NDArray[np.uint8]
    t1: NDArray[np.int16]
    affine: Affine
    t1_affine: Affine
    description: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Head:
    """The patient on the lattice, all (x, y, z) float32.

    Args:
        grid: The lattice.
        b0, dwi, t1: Noise-free signals.
        white: White matter and no lesion.
        brain: Share inside the dura.
        infarcts: One for each part of the scene, share of the voxel that is infarct.
    """

    grid: Grid
    b0: NDArray[np.float32]
    dwi: NDArray[np.float32]
    t1: NDArray[np.float32]
    white: NDArray[np.bool_]
    brain: NDArray[np.float32]
    infarcts: tuple[NDArray[np.float32], ...]


def make_sample_case(design: Design, monitor: Monitor | None = None) -> SampleCase:
    """The patient of a design; the same design gives the same images.

    Raises:
        DependencyError: The brain template is missing.
    """
    monitor = monitor or Monitor()
    with monitor.stage("sample patient", "drawing the head"):
        head = _draw(design.scene)
    with monitor.stage("scan", "slices, noise and masks"):
        return _scan(head, design)


def write_sample_case(case: SampleCase, folder: Path) -> None:
    """Writes the five images and ``sample.json``; equal patients give equal bytes.

    Args:
        case: What to write.
        folder: Made where it does not exist.

    Raises:
        InputError: The folder cannot be written.
    """
    images: Mapping[str, tuple[NDArray[Any], Affine]] = {
        "dwi": (case.dwi, case.affine),
        "b0": (case.b0, case.affine),
        "adc": (case.adc, case.affine),
        "lesions": (case.lesions, case.affine),
        "t1": (case.t1, case.t1_affine),
    }
    text = json.dumps(case.description, indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (array, affine) in images.items():
            write_nifti(folder / f"{name}.nii.gz", array, affine, compression_level=_COMPRESSION)
        (folder / "sample.json").write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(
            "The synthetic patient cannot be written.",
            f"The operating system refused it in '{folder}' ({error.strerror or type(error).__name__}).",
            "Choose a folder that you may write to and that has 4 MB left.",
        ) from error


def _draw(scene: Scene) -> _Head:
    """The scene on a lattice as large as the working grid, but finer."""
    shape, spacing = GRIDS["dwi-adc"]
    x, y, z = (round(n * s / LATTICE_MM) for n, s in zip(shape, spacing, strict=True))
    fine = (LATTICE_MM, LATTICE_MM, LATTICE_MM)
    anatomy = make_anatomy([scene.anatomy], load_template(), (x, y, z), fine, torch.device("cpu"))
    lesions = make_lesions([scene.lesions], anatomy)
    distractors = make_distractors([scene.distractors], anatomy, lesions)
    b0, dwi = diffusion_signals([scene.physics], anatomy, lesions, distractors)
    if scene.acquisition.susceptibility is not None:
        on_b0, on_dwi = pile_up([scene.acquisition.susceptibility], anatomy, [scene.physics.b_value])
        b0, dwi = b0 * on_b0, dwi * on_dwi
    t1 = t1_signal([scene.physics], anatomy, lesions, distractors)
    tissue = 1.0 - altered_fractions(anatomy.fractions, lesions, distractors)[:, 2]
    return _Head(
        grid=tilted_grid((x, y, z), np.diag(fine), (0.0, 0.0, 0.0)),
        b0=_array(b0),
        dwi=_array(dwi),
        t1=_array(t1),
        white=_array((anatomy.fractions[:, 1] > 0.9) & (lesions.infarct < 0.1)),
        brain=_array(anatomy.brain),
        infarcts=tuple(_array(one.infarct * tissue) for one in _parts(scene, anatomy)),
    )


def _parts(scene: Scene, anatomy: Anatomy) -> list[Lesions]:
    """Each infarct alone, to know which voxel belongs to which."""
    alone = [replace(scene.lesions, parts=(part,)) for part in scene.lesions.parts]
    return [make_lesions([one], anatomy) for one in alone]


def _array(batch: Tensor) -> NDArray[Any]:
    return batch[0].numpy()


def _scan(head: _Head, design: Design) -> SampleCase:
    rng = np.random.default_rng(design.scene.seed)
    grid = tilted_grid(DWI_SHAPE, np.diag([-1.0, 1.0, 1.0]) * DWI_SPACING_MM, DWI_TILT_DEG)
    noise = float(np.median(head.dwi[head.white])) / SNR
    s0, sb = (slice_sample(image, head.grid, grid, (2, 2, 3)) for image in (head.b0, head.dwi))
    brain = stripped(slice_sample(head.brain, head.grid, grid, (1, 1, 1)))
    counts = DWI_COUNTS_PER_NOISE / noise
    # Rounded to counts first: the ADC map then follows from the stored images alone.
    b0, dwi = (np.rint(rician(s, noise, rng) * counts) * brain for s in (s0, sb))
    adc = np.log(np.maximum(b0, 1) / np.maximum(dwi, 1)) / design.scene.physics.b_value
    shares = [slice_sample(i, head.grid, grid, (2, 2, 3)) * brain for i in head.infarcts]
    owner = _owner(shares)
    t1_brain = stripped(head.brain)
    t1 = np.rint(rician(head.t1, T1_NOISE, rng) * (T1_COUNTS_PER_NOISE / T1_NOISE)) * t1_brain
    return SampleCase(
        dwi=dwi.astype(np.int16),
        b0=b0.astype(np.int16),
        adc=(np.rint(np.clip(adc, 0, 6) / ADC_STEP) * ADC_STEP * brain).astype(np.float32),
        lesions=(owner > 0).astype(np.uint8),
        t1=t1.astype(np.int16),
        affine=grid.affine,
        t1_affine=head.grid.affine,
        description=describe(design, owner, grid),
    )


def _owner(shares: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Number (from 1) of the infarct that a voxel belongs to, 0 where less than half of the voxel is infarct."""
    together = np.stack(shares)
    owner = np.argmax(together, axis=0).astype(np.uint8) + 1
    owner[together.max(axis=0) < 0.5] = 0
    return np.asarray(owner, dtype=np.uint8)


def describe(design: Design, owner: NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """The content of ``sample.json``.

    Args:
        design: What was drawn.
        owner: (x, y, z), 0 or the number (from 1) of the infarct of each voxel.
        grid: Where its voxels lie.
    """
    scene = design.scene
    lesions: list[dict[str, Any]] = []
    for number, (name, part) in enumerate(zip(design.names, scene.lesions.parts, strict=True), start=1):
        index = np.argwhere(owner == number)
        if len(index) == 0:
            raise InputError(
                "The design of the sample patient is not usable.",
                f"The infarct '{name}' fills no voxel.",
                "Give it more volume or another place.",
            )
        lesions.append(
            {
                "name": name,
                "voxels": len(index),
                "volume_ml": round(len(index) * grid.voxel_ml, 4),
                "centroid_ras_mm": [round(float(v), 2) for v in grid.to_world(index.mean(axis=0))],
                "diffusivity_factor": getattr(part.look, "d_ratio", None),
                "t2_factor": getattr(part.look, "t2_ratio", None),
            }
        )
    return {
        "statement": STATEMENT,
        "command": COMMAND,
        "seed": scene.seed,
        "generator_version": GENERATOR_VERSION,
        "b_value_s_per_mm2": round(scene.physics.b_value * 1000),
        "echo_time_ms": scene.physics.te_ms,
        "repetition_time_ms": scene.physics.tr_ms,
        "noise_sd_counts": DWI_COUNTS_PER_NOISE,
        "adc_unit": "1e-3 mm²/s",
        "lesion_volume_ml": round(sum(row["voxels"] for row in lesions) * grid.voxel_ml, 4),
        "lesions": lesions,
        "not_lesions": list(design.not_lesions),
        "scene": json.loads(scene.to_json()),
        "template_notice": TEMPLATE_NOTICE,
    }
