"""Makes the synthetic patient of ``Resources/Samples``: DWI, b0, ADC, T1 and the acute lesions known to be in them.

    python -m strokeseg_training.sample_patient --out Resources/Samples/synthetic-patient --seed N

Everything is simulated from the MNI ICBM152 template and the seed; no patient's image is involved.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError, StrokeSegError
from strokeseg.volume.grid import Grid
from strokeseg_training.sample_anatomy import make_anatomy, rotation
from strokeseg_training.sample_lesions import INFARCTS, grow_disease
from strokeseg_training.sample_physics import (
    B_VALUE,
    TE_MS,
    TR_MS,
    diffusion_signals,
    rician,
    slice_sample,
    t1_signal,
)

VERSION = "1"
DEFAULT_SEED = 7
DWI_SHAPE, DWI_SPACING_MM = (128, 128, 50), (1.8, 1.8, 3.0)
T1_SHAPE, T1_SPACING_MM = (152, 186, 162), (1.0, 1.0, 1.0)
# Slices are tilted as planned along the skull base, voxel x runs to the patient's left as on most scanners.
DWI_TILT_DEG = (7.0, 0.0, 1.5)
# White matter at b = 1000 over the noise of one channel.
SNR = 25.0
# Counts of the stored images: noise spans several of them, so that rounding adds nothing visible.
DWI_COUNTS_PER_NOISE = 5.0
T1_COUNTS_PER_NOISE = 2.0
T1_NOISE = 0.035
ADC_STEP = 0.005

STATEMENT = "synthetic: made from the MNI ICBM152 2009a template by simulation, no patient image"
COMMAND = "python -m strokeseg_training.sample_patient --out Resources/Samples/synthetic-patient --seed"
TEMPLATE_NOTICE = (
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, "
    "McGill University. Permission to use, copy, modify, and distribute this software and its documentation for any "
    "purpose and without fee is hereby granted, provided that the above copyright notice appear in all copies. The "
    "authors and McGill University make no representations about the suitability of this software for any purpose. It "
    'is provided "as is" without express or implied warranty. The authors are not responsible for any data loss, '
    "equipment damage, property loss, or injury to subjects or patients resulting from the use or misuse of this "
    "software package."
)


@dataclass(frozen=True, eq=False)
class SamplePatient:
    """The images of one synthetic patient.

    Args:
        dwi, b0: (x, y, z) int16 counts, trace images at b = 1000 and 0 s/mm².
        adc: (x, y, z) int16, in steps of `ADC_STEP` times 1e-3 mm²/s.
        lesions: (x, y, z) uint8, acute infarcts.
        t1: (x, y, z) int16 counts on its own grid.
        affine, t1_affine: 4x4, voxel index to RAS mm.
        description: The content of ``sample.json``.
    """

    dwi: NDArray[np.int16]
    b0: NDArray[np.int16]
    adc: NDArray[np.int16]
    lesions: NDArray[np.uint8]
    t1: NDArray[np.int16]
    affine: NDArray[np.float64]
    t1_affine: NDArray[np.float64]
    description: dict[str, Any]


def make_sample(seed: int) -> SamplePatient:
    """The synthetic patient of a seed; the same seed gives the same images.

    Args:
        seed: Any integer from 0.

    Returns:
        Images and description; about 20 seconds of one core and 1 GB of memory.

    Raises:
        InputError: The seed is negative.
        DependencyError: The brain template is missing.
    """
    if seed < 0:
        raise InputError("The seed is not usable.", f"It is {seed}.", "Choose a whole number from 0.")
    rng = np.random.default_rng(seed)
    anatomy, disease = grow_disease(make_anatomy(rng), rng)
    centre = anatomy.affine[:3, :3] @ ((np.array(anatomy.shape) - 1) / 2) + anatomy.affine[:3, 3]
    grid = tilted_grid(DWI_SHAPE, np.diag([-1.0, 1.0, 1.0]) * DWI_SPACING_MM, DWI_TILT_DEG, centre)
    t1_grid = tilted_grid(T1_SHAPE, np.diag(T1_SPACING_MM), (0.0, 0.0, 0.0), centre)

    s0, sb = diffusion_signals(anatomy, disease.change, rng)
    noise = float(np.median(sb[(anatomy.white > 0.9) & (disease.infarct < 0.1)])) / SNR
    s0, sb, infarct = (slice_sample(f, anatomy.affine, grid, (2, 2, 3)) for f in (s0, sb, disease.infarct))
    brain = _strip(slice_sample(anatomy.brain.astype(np.float32), anatomy.affine, grid, (1, 1, 1)))
    counts = DWI_COUNTS_PER_NOISE / noise
    # Rounded to counts first: the ADC map then follows from the stored images alone.
    b0, dwi = (np.rint(rician(s, noise, rng) * counts) * brain for s in (s0, sb))
    adc = np.log(np.maximum(b0, 1) / np.maximum(dwi, 1)) / B_VALUE
    owner = slice_sample(disease.owner, anatomy.affine, grid, (1, 1, 1), order=0).astype(np.uint8)
    owner[(infarct < 0.5) | ~brain] = 0

    t1 = slice_sample(t1_signal(anatomy, disease.change, rng), anatomy.affine, t1_grid, (1, 1, 1))
    t1_brain = _strip(slice_sample(anatomy.brain.astype(np.float32), anatomy.affine, t1_grid, (1, 1, 1)))
    t1 = np.rint(rician(t1, T1_NOISE, rng) * (T1_COUNTS_PER_NOISE / T1_NOISE)) * t1_brain
    return SamplePatient(
        dwi=dwi.astype(np.int16),
        b0=b0.astype(np.int16),
        adc=(np.rint(np.clip(adc, 0, 6) / ADC_STEP) * brain).astype(np.int16),
        lesions=(owner > 0).astype(np.uint8),
        t1=t1.astype(np.int16),
        affine=grid.affine,
        t1_affine=t1_grid.affine,
        description=_describe(seed, owner, grid),
    )


def tilted_grid(
    shape: tuple[int, int, int],
    axes: NDArray[np.float64],
    tilt_deg: tuple[float, float, float],
    centre_mm: NDArray[np.float64],
) -> Grid:
    """The grid whose middle lies at `centre_mm` (RAS); `axes` (3x3 columns) are its voxel steps in mm before the tilt.

    Rounded to what a NIfTI header keeps, so that the affine read back is the affine used.
    """
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt_deg) @ axes
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine.astype(np.float32).astype(np.float64))


def _strip(brain_fraction: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The mask of a skull-stripping tool: one piece, slightly smoothed."""
    mask = ndimage.gaussian_filter(brain_fraction, 0.7) >= 0.5
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1)


def _describe(seed: int, owner: NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """The content of ``sample.json``; `owner` holds 0 or the number of the infarct (from 1) of each voxel."""
    lesions: list[dict[str, Any]] = []
    for number, plan in enumerate(INFARCTS, start=1):
        index = np.argwhere(owner == number)
        centroid = grid.to_world(index.mean(axis=0))
        lesions.append(
            {
                "name": plan.name,
                "voxels": len(index),
                "volume_ml": round(len(index) * grid.voxel_ml, 4),
                "centroid_ras_mm": [round(float(v), 2) for v in centroid],
                "diffusivity_factor": plan.diffusivity,
                "t2_factor": plan.t2,
            }
        )
    return {
        "statement": STATEMENT,
        "command": f"{COMMAND} {seed}",
        "seed": seed,
        "generator_version": VERSION,
        "b_value_s_per_mm2": round(B_VALUE * 1000),
        "echo_time_ms": TE_MS,
        "repetition_time_ms": TR_MS,
        "noise_sd_counts": DWI_COUNTS_PER_NOISE,
        "adc_unit": "1e-3 mm²/s",
        "lesion_volume_ml": round(sum(row["voxels"] for row in lesions) * grid.voxel_ml, 4),
        "lesions": lesions,
        "not_lesions": [
            "old cavity beside the left putamen",
            "white-matter hyperintensities",
            "signal pile-up above the ear canals",
        ],
        "template_notice": TEMPLATE_NOTICE,
    }


def write_sample(patient: SamplePatient, folder: Path) -> None:
    """Writes the five images and ``sample.json``; equal patients give equal bytes.

    Args:
        patient: What to write.
        folder: Made where it does not exist.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array, affine, step in (
            ("dwi", patient.dwi, patient.affine, 1.0),
            ("b0", patient.b0, patient.affine, 1.0),
            ("adc", patient.adc, patient.affine, ADC_STEP),
            ("lesions", patient.lesions, patient.affine, 1.0),
            ("t1", patient.t1, patient.t1_affine, 1.0),
        ):
            image = nib.Nifti1Image(array, affine)
            image.header.set_xyzt_units("mm")
            image.header.set_slope_inter(step, 0.0)
            image.set_qform(affine, code=1)
            image.set_sform(affine, code=1)
            # A time of 0 in the gzip header: the file depends on the content alone.
            (folder / f"{name}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))
        text = json.dumps(patient.description, indent=2, ensure_ascii=False) + "\n"
        (folder / "sample.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            "The synthetic patient could not be written.",
            f"Writing to '{folder}' failed: {error}.",
            "Choose a folder that you may write to and that has 4 MB left.",
        ) from error


def main(arguments: list[str] | None = None) -> None:
    """Command line: ``--out FOLDER --seed N``."""
    parser = argparse.ArgumentParser(description="Make the synthetic patient of Resources/Samples.")
    parser.add_argument(
        "--out", type=Path, default=Path("Resources/Samples/synthetic-patient"), help="folder to write to"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of every random number")
    options = parser.parse_args(arguments)
    try:
        patient = make_sample(options.seed)
        write_sample(patient, options.out)
    except StrokeSegError as error:
        parser.exit(error.exit_code, f"{error}\n")
    for lesion in patient.description["lesions"]:
        print(f"{lesion['volume_ml']:8.2f} ml  {lesion['name']}")


if __name__ == "__main__":
    main()
