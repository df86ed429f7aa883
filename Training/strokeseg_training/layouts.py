"""Where the files of a synthetic case stand: the layouts of ISLES'22, ATLAS and BIDS.

- **isles22** (Hernandez Petzsche et al., Scientific Data 2022): DWI and ADC in ``sub-strokecaseNNNN/ses-0001/dwi``, the
  mask ``_msk`` under ``derivatives``. The b = 0 image, which ISLES'22 does not give away, lies beside them.
- **isles22-kaggle**: a mirror of it, where each NIfTI lies uncompressed in a folder that carries the file's name.
- **atlas-r1** (Liew et al., Scientific Data 2018): ``cNNNN/cNNNNsNNNNt01`` holds the T1, the mask ``_LesionSmooth_stx``
  of the largest lesion, and ``_LesionSmooth_1_stx`` and so on of the others. ``cNNNN`` is the centre.
- **atlas** (Liew et al., Scientific Data 2022): ``Training/RNNN/sub-rNNNsNNN/ses-1/anat`` holds the T1 and the mask
  ``_label-L_desc-T1lesion_mask``. The release is in MNI space, a synthetic patient is not: its files say
  ``space-orig``. The cohort ``rNNN`` stands for the centre.
- **bids**: images in ``sub-NNNN/{dwi,anat}`` with the suffixes of scanner-made maps, masks under
  ``derivatives/lesions``; ``participants.tsv`` tells the centres where there are several.

The number of a case is its seed, so that a data set grows by further seeds without a collision; seeds go round the
centres.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from strokeseg.errors import InputError

LAYOUTS = ("isles22", "isles22-kaggle", "atlas", "atlas-r1", "bids")
TASK_ROLES: Mapping[str, tuple[str, ...]] = {"dwi-adc": ("dwi", "adc", "b0"), "t1": ("t1",)}
LAYOUT_TASKS: Mapping[str, tuple[str, ...]] = {
    "isles22": ("dwi-adc",),
    "isles22-kaggle": ("dwi-adc",),
    "atlas": ("t1",),
    "atlas-r1": ("t1",),
    "bids": ("dwi-adc", "t1"),
}
# Digits for the centre, numbered from 1, and for the subject in it, numbered from 0.
_DIGITS = {"atlas": (3, 3), "atlas-r1": (4, 4)}
PARTICIPANTS = "participants.tsv"


@dataclass(frozen=True)
class CasePlace:
    """The files of one case, as paths relative to the data set's folder, with ``/``.

    Args:
        name: The case's name, as the engine's discovery gives it.
        folders: The folders that hold nothing but this case. The last one holds the images: without it the others are
            no case.
        images: Role to file.
        mask: The lesion mask; where there are `further_masks`, that of the largest lesion.
        description: The JSON file that tells how the case was made; it lies in the first of the folders.
        companions: Further text files and what they contain.
        further_masks: Where each further lesion has a mask of its own: its file, with ``{}`` for the number from 1.
    """

    name: str
    folders: tuple[str, ...]
    images: Mapping[str, str]
    mask: str
    description: str
    companions: Mapping[str, str] = field(default_factory=dict)
    further_masks: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the case but further masks."""
        return (*self.images.values(), self.mask, self.description, *self.companions)


def place_case(layout: str, task: str, seed: int, centres: int = 1) -> CasePlace:
    """Where the files of the case with this seed stand.

    Args:
        layout: One of `LAYOUTS`.
        task: ``"dwi-adc"`` or ``"t1"``.
        seed: From 0; the case's number.
        centres: How many the data set has.

    Raises:
        InputError: The layout does not hold the task's images, tells no centres, or has no number for the seed.
    """
    check_layout(layout, task, centres)
    last = _last_seed(layout, centres)
    if seed < 0 or (last is not None and seed > last):
        limit = "upwards" if last is None else f"to {last}"
        raise InputError(
            "The seed is not usable.",
            f"It is {seed}; the layout '{layout}' numbers cases by their seeds, from 0 {limit}.",
            "Choose another --seed or a smaller --count.",
        )
    if layout in ("isles22", "isles22-kaggle"):
        place = _isles22(seed, TASK_ROLES[task])
        return place if layout == "isles22" else _mirrored(place)
    if layout in _DIGITS:
        return (_atlas if layout == "atlas" else _atlas_r1)(*_centre_and_subject(layout, seed, centres))
    return _bids(seed, TASK_ROLES[task])


def centre_of(seed: int, centres: int) -> int:
    """Number of the centre, from 0, of a case."""
    return seed % centres


def participants(seeds: Iterable[int], centres: int) -> str:
    """BIDS' table of participants for the cases with these seeds."""
    rows = [f"sub-{seed:04d}\tcentre{1 + centre_of(seed, centres):02d}" for seed in sorted(seeds)]
    return "\n".join(["participant_id\tsite", *rows]) + "\n"


def _last_seed(layout: str, centres: int) -> int | None:
    if layout not in _DIGITS:
        return None
    centre_digits, subject_digits = _DIGITS[layout]
    rounds: int = (10**centre_digits - 1) // centres
    return rounds * int(10**subject_digits) - 1


def _centre_and_subject(layout: str, seed: int, centres: int) -> tuple[str, str]:
    centre_digits, subject_digits = _DIGITS[layout]
    block, subject = divmod(seed, int(10**subject_digits))
    centre = 1 + block * centres + centre_of(seed, centres)
    return f"{centre:0{centre_digits}d}", f"{subject:0{subject_digits}d}"


def check_layout(layout: str, task: str, centres: int = 1) -> None:
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
    if centres > 1 and layout.startswith("isles22"):
        raise InputError(
            "The layout tells no centres.",
            f"ISLES'22 does not say where a patient was examined; {centres} centres were asked for.",
            "Leave --centres out, or choose --layout bids.",
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


def _mirrored(place: CasePlace) -> CasePlace:
    """In the folder that the mirror unpacks to, each NIfTI in a folder of its own name."""

    def own_folder(file: str) -> str:
        name = file.rsplit("/", 1)[-1].removesuffix(".gz")
        return f"ISLES-2022/{file.removesuffix('.gz')}/{name}"

    return CasePlace(
        name=place.name,
        folders=tuple(f"ISLES-2022/{folder}" for folder in place.folders),
        images={role: own_folder(file) for role, file in place.images.items()},
        mask=own_folder(place.mask),
        description=f"ISLES-2022/{place.description}",
    )


def _atlas_r1(centre: str, subject: str) -> CasePlace:
    name = f"c{centre}s{subject}t01"
    folder = f"c{centre}/{name}"
    return CasePlace(
        name=name,
        folders=(folder,),
        images={"t1": f"{folder}/{name}_t1w_stx.nii.gz"},
        mask=f"{folder}/{name}_LesionSmooth_stx.nii.gz",
        description=f"{folder}/{name}_scene.json",
        further_masks=f"{folder}/{name}_LesionSmooth_{{}}_stx.nii.gz",
    )


def _atlas(cohort: str, subject: str) -> CasePlace:
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
