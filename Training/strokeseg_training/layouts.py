"""Where the files of a synthetic case stand: the layouts of ISLES'22, ATLAS R2 and BIDS.

- **isles22** (Hernandez Petzsche et al., Scientific Data 2022): DWI and ADC in ``sub-strokecaseNNNN/ses-0001/dwi``, the
  mask ``_msk`` under ``derivatives``. The b = 0 image, which ISLES'22 does not give away, lies beside them.
- **atlas** (Liew et al., Scientific Data 2022): ``Training/RNNN/sub-rNNNsNNN/ses-1/anat`` holds the T1 and the mask
  ``_label-L_desc-T1lesion_mask``. The release is in MNI space, a synthetic patient is not: its files say
  ``space-orig``.
- **bids**: images in ``sub-NNNN/{dwi,anat}`` with the suffixes of scanner-made maps, masks under
  ``derivatives/lesions``.

The number of a case is its seed, so that a data set grows by further seeds without a collision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from strokeseg.errors import InputError

LAYOUTS = ("isles22", "atlas", "bids")
TASK_ROLES: Mapping[str, tuple[str, ...]] = {"dwi-adc": ("dwi", "adc", "b0"), "t1": ("t1",)}
LAYOUT_TASKS: Mapping[str, tuple[str, ...]] = {"isles22": ("dwi-adc",), "atlas": ("t1",), "bids": ("dwi-adc", "t1")}
# Three digits for the cohort, from 001, and three for the subject.
ATLAS_SEEDS = 999_000


@dataclass(frozen=True)
class CasePlace:
    """The files of one case, as paths relative to the data set's folder, with ``/``.

    Args:
        name: The case's name, as the engine's discovery gives it.
        folders: The folders that hold nothing but this case. The last one holds the images: without it the others are
            no case.
        images: Role to file.
        mask: The lesion mask.
        description: The JSON file that tells how the case was made; it lies in the first of the folders.
        companions: Further text files and what they contain.
    """

    name: str
    folders: tuple[str, ...]
    images: Mapping[str, str]
    mask: str
    description: str
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the case."""
        return (*self.images.values(), self.mask, self.description, *self.companions)


def place_case(layout: str, task: str, seed: int) -> CasePlace:
    """Where the files of the case with this seed stand.

    Args:
        layout: One of `LAYOUTS`.
        task: ``"dwi-adc"`` or ``"t1"``.
        seed: From 0; the case's number.

    Raises:
        InputError: The layout does not hold the task's images, or has no number for the seed.
    """
    check_layout(layout, task)
    if seed < 0 or (layout == "atlas" and seed >= ATLAS_SEEDS):
        limit = f"to {ATLAS_SEEDS - 1}" if layout == "atlas" else "upwards"
        raise InputError(
            "The seed is not usable.",
            f"It is {seed}; the layout '{layout}' numbers cases by their seeds, from 0 {limit}.",
            "Choose another --seed or a smaller --count.",
        )
    if layout == "isles22":
        return _isles22(seed, TASK_ROLES[task])
    if layout == "atlas":
        return _atlas(seed)
    return _bids(seed, TASK_ROLES[task])


def check_layout(layout: str, task: str) -> None:
    """Raise `InputError` where the layout or the task is unknown, or the one does not hold the other's images."""
    if task not in TASK_ROLES:
        raise InputError("The task is unknown.", f"'{task}' was asked for.", f"Choose one of: {', '.join(TASK_ROLES)}.")
    if layout not in LAYOUTS:
        raise InputError(
            "The layout is unknown.", f"'{layout}' was asked for.", f"Choose one of: {', '.join(LAYOUTS)}."
        )
    if task not in LAYOUT_TASKS[layout]:
        fitting = [name for name in LAYOUTS if task in LAYOUT_TASKS[name]]
        raise InputError(
            "The layout does not hold the images of this task.",
            f"The layout '{layout}' is for {' and '.join(LAYOUT_TASKS[layout])}, the task is {task}.",
            f"Choose --layout {' or '.join(fitting)}.",
        )


def data_set_files(layout: str, statement: str, version: str) -> dict[str, str]:
    """Text files that describe the whole data set: path to content."""
    files = {
        "README": f"{statement}\nMade by StrokeSeg's generator {version}. The JSON file of a case tells its scene.\n"
    }
    if layout == "bids":
        made_by = [{"Name": "StrokeSeg synthetic stroke generator", "Version": version, "Description": statement}]
        common = {"BIDSVersion": "1.10.0", "GeneratedBy": made_by}
        raw = {"Name": "Synthetic stroke patients", "DatasetType": "raw", **common}
        masks = {"Name": "Lesion masks of synthetic stroke patients", "DatasetType": "derivative", **common}
        files["dataset_description.json"] = _json(raw)
        files["derivatives/lesions/dataset_description.json"] = _json(masks)
    return files


def _isles22(seed: int, roles: tuple[str, ...]) -> CasePlace:
    subject, session = f"sub-strokecase{seed:04d}", "ses-0001"
    stem = f"{subject}_{session}"
    masks = f"derivatives/{subject}"
    return CasePlace(
        name=stem,
        folders=(masks, subject),
        images={role: f"{subject}/{session}/dwi/{stem}_{role}.nii.gz" for role in roles},
        mask=f"{masks}/{session}/{stem}_msk.nii.gz",
        description=f"{masks}/{session}/{stem}_scene.json",
    )


def _atlas(seed: int) -> CasePlace:
    cohort, subject = f"{1 + seed // 1000:03d}", f"{seed % 1000:03d}"
    name = f"sub-r{cohort}s{subject}"
    folder = f"Training/R{cohort}/{name}"
    stem = f"{folder}/ses-1/anat/{name}_ses-1_space-orig"
    return CasePlace(
        name=f"{name}_ses-1",
        folders=(folder,),
        images={"t1": f"{stem}_T1w.nii.gz"},
        mask=f"{stem}_label-L_desc-T1lesion_mask.nii.gz",
        description=f"{folder}/ses-1/anat/{name}_ses-1_scene.json",
    )


def _bids(seed: int, roles: tuple[str, ...]) -> CasePlace:
    subject = f"sub-{seed:04d}"
    suffixes = {"dwi": "dwi/{}_trace", "adc": "dwi/{}_ADC", "b0": "dwi/{}_acq-b0_dwi", "t1": "anat/{}_T1w"}
    images = {role: f"{subject}/{suffixes[role].format(subject)}.nii.gz" for role in roles}
    masks = f"derivatives/lesions/{subject}"
    kind = "anat" if "t1" in roles else "dwi"
    # BIDS wants a table of gradients beside everything that is called dwi.
    stem = images["b0"].removesuffix(".nii.gz") if "b0" in images else ""
    return CasePlace(
        name=subject,
        folders=(masks, subject),
        images=images,
        mask=f"{masks}/{kind}/{subject}_label-lesion_mask.nii.gz",
        description=f"{masks}/{kind}/{subject}_scene.json",
        companions={f"{stem}.bval": "0\n", f"{stem}.bvec": "0\n0\n0\n"} if stem else {},
    )


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
