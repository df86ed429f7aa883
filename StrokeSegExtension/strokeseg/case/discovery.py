"""Finding cases in a folder: one case, a folder of cases, BIDS, ISLES'22 and ATLAS.

What is assumed of the layouts:

- **folder**: the files of a case lie side by side, their names tell the roles; a folder of such folders is a list of
  cases.
- **bids**: ``sub-X[/ses-Y]/{dwi,anat}/sub-X[_ses-Y]_…``; masks beside the images or under ``derivatives/**/sub-X…``.
  Images under ``derivatives`` count only where the raw data have none of their role.
- **isles22** (Hernandez Petzsche et al., Scientific Data 2022): BIDS with subjects called ``strokecaseNNNN``; DWI and
  ADC in ``ses-0001/dwi``, FLAIR in ``ses-0001/anat``, the mask ``_msk`` under ``derivatives/sub-…/ses-…``. In a mirror
  each NIfTI lies in a folder that carries the file's name and ends in ``.nii``: there, the folder's name counts.
- **atlas-r1** (Liew et al., Scientific Data 2018): ``Site/NNNNNN/t01/NNNNNN_t1w_deface_stx`` (R1.1) or
  ``cNNNN/cNNNNsNNNNtNN/cNNNNsNNNNtNN_t1w_stx`` (R1.2); main mask ``…_LesionSmooth[_stx]``, one mask for each further
  lesion ``…_LesionSmooth_1[_stx]`` and so on. The reference of such a case is the union of all its masks.
- **atlas-r2** (Liew et al., Scientific Data 2022): BIDS with subjects called ``rNNNsNNN``, the mask is called
  ``…_label-L_desc-T1lesion_mask``.

A folder of ``.dcm`` or ``.ima`` files is one image whose role the folder's name tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from strokeseg.case.roles import ROLE_TITLES, safe_name
from strokeseg.errors import InputError
from strokeseg.models import INPUT_ROLES, roles_in_name

_IMAGE_NAME = re.compile(r"(?P<stem>.+?)\.(nii\.gz|nii|hdr|nrrd|nhdr|mha|mhd|npy)$", re.IGNORECASE)
_DICOM_NAME = re.compile(r".+\.(dcm|dicom|ima)$", re.IGNORECASE)
_SUBJECT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9+]+)")
_SESSION = re.compile(r"(?:^|_)(ses-[A-Za-z0-9+]+)")
_DATASET_PARTS = re.compile(r"sub-[A-Za-z0-9+]+|derivatives|rawdata|sourcedata", re.IGNORECASE)
_ATLAS_R1 = re.compile(r"(?P<id>c\d{4}s\d{4}t\d{2}|\d{6})_(t1w|lesion)", re.IGNORECASE)
_ATLAS_R1_MAIN = re.compile(r".+_lesionsmooth(_stx)?", re.IGNORECASE)
_ATLAS_R1_FURTHER = re.compile(r".+_lesionsmooth_\d+(_stx)?", re.IGNORECASE)
# Enough to start a run with; a b = 0 image alone is not.
_CASE_ROLES = ("dwi", "adc", "t1", "flair")
_SHOWN_NAMES = 12


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case, found but not read.

    Args:
        name: Identifier, safe for file names and different for every case of one discovery. A folder's name may be a
            patient's: results carry it only when the user asked for that.
        files: Role (`INPUT_ROLES` and ``"brain_mask"``) to file; `Case.from_files` takes it as it is.
        reference: The reference mask, kept apart from what is handed to inference.
        extra_references: Masks of further lesions; the union with `reference` is the whole reference.
        layout: ``folder``, ``bids``, ``isles22``, ``atlas-r1`` or ``atlas-r2``.
        notes: What was decided, in sentences for the screen; they name files.
    """

    name: str
    files: Mapping[str, Path]
    reference: Path | None = None
    extra_references: tuple[Path, ...] = ()
    layout: str = "folder"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Image:
    """A file (or folder of DICOM slices), the name that tells its role, and the folders above it, outermost first."""

    path: Path
    label: str
    place: tuple[str, ...]

    @property
    def is_derived(self) -> bool:
        return any(part.lower() == "derivatives" for part in self.place)


@dataclass
class _Group:
    """The images of one case while they are collected."""

    name: str
    kind: str
    images: list[_Image] = field(default_factory=list)


def discover(folder: str | os.PathLike[str]) -> list[CaseFiles]:
    """All cases in `folder`, sorted by name; the layouts are described at the top of this file.

    Hidden files, sidecars and folders with results of StrokeSeg are passed over. Links to folders are followed once.

    Raises:
        InputError: Nothing was found, the folder cannot be read, or the names leave a choice open.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            "The folder with the scans was not found."
            if not root.exists()
            else "A folder was expected, this is a file.",
            f"Looked for: {root}.",
            "Give the folder that holds the scans, or name single files by their roles (--dwi, --adc, --t1, …).",
        )
    images, seen, notes = _walk(root)
    groups = _grouped(root, images)
    problems: list[str] = []
    cases = [case for group in groups if (case := _case_of(group, problems)) is not None]
    if problems:
        more = f" {len(problems) - 5} more cases have the same difficulty." if len(problems) > 5 else ""
        raise InputError(
            "The names of the files leave a choice open.",
            " ".join(problems[:5]) + more,
            "Leave one file for each role in a case's folder, or name the files by their roles (--dwi, --adc, …).",
        )
    if not cases:
        raise _nothing_found(root, seen)
    return [replace(case, notes=(*case.notes, *notes)) for case in _with_own_names(cases)]


def _walk(root: Path) -> tuple[list[_Image], list[str], tuple[str, ...]]:
    """All images under `root`, all names seen, and notes on what was passed over.

    Real folders come before links to folders and no folder is entered twice: a link that leads upwards ends, and a
    folder that is linked from elsewhere keeps its own place.
    """
    images: list[_Image] = []
    seen: list[str] = []
    notes: list[str] = []
    visited: set[str] = set()
    links: list[tuple[Path, tuple[str, ...]]] = []
    todo: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while todo or links:
        here, place = todo.pop() if todo else links.pop(0)
        real = os.path.realpath(here)
        if real in visited:
            continue
        visited.add(real)
        files, folders, linked = _listing(here)
        seen += [f.name for f in files]
        if {"summary.json", "lesion_mask.nii.gz"} <= {f.name for f in files}:
            notes.append(f"The folder '{here.name}' holds results of StrokeSeg and was left out.")
            continue
        images += _images_in(here, place, files)
        links += [(p, (*place, p.name)) for p in linked]
        todo += [(p, (*place, p.name)) for p in reversed(folders)]
    return sorted(images, key=lambda i: (i.place, i.label, str(i.path))), seen, tuple(notes)


def _listing(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Visible files, real folders and links to folders in `folder`, each sorted by name."""
    files: list[Path] = []
    folders: list[Path] = []
    linked: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = folder / entry.name
                if entry.is_dir():
                    (linked if entry.is_symlink() else folders).append(path)
                elif entry.is_file():
                    files.append(path)
    except OSError as error:
        raise InputError(
            "A folder cannot be read.",
            f"{folder}: {error.strerror or error}.",
            "Check the permissions of the folder, or give another one.",
        ) from error
    return sorted(files), sorted(folders), sorted(linked)


def _images_in(folder: Path, place: tuple[str, ...], files: list[Path]) -> list[_Image]:
    """The images among the `files` of `folder`; `place` is the folder's path below the root."""
    if any(_DICOM_NAME.match(f.name) for f in files):
        return [_Image(folder, folder.name, place[:-1])]
    named_by_folder = _IMAGE_NAME.match(folder.name)
    where = place[:-1] if named_by_folder else place
    found = [(f, m) for f in files if (m := _IMAGE_NAME.match(f.name))]
    return [_Image(f, (named_by_folder or m)["stem"], where) for f, m in found]


def _grouped(root: Path, images: Iterable[_Image]) -> list[_Group]:
    """Images by the case they belong to, in the order of place and name."""
    groups: dict[tuple[tuple[str, ...], str], _Group] = {}
    for image in images:
        if not roles_in_name(image.label):
            continue
        where, name, kind = _belongs_to(image, root.name)
        groups.setdefault((where, name), _Group(name, kind)).images.append(image)
    # A mask under derivatives may leave out the session where a subject has only one.
    for (where, name), group in list(groups.items()):
        sessions = [g for (w, n), g in groups.items() if w == where and n.startswith(f"{name}_ses-")]
        if group.kind != "folder" and len(sessions) == 1:
            sessions[0].images += groups.pop((where, name)).images
    return [groups[key] for key in sorted(groups)]


def _belongs_to(image: _Image, root_name: str) -> tuple[tuple[str, ...], str, str]:
    """Where the data set of `image` lies, the name of its case, and the layout."""
    subject = _entity(_SUBJECT, image)
    if subject:
        session = _entity(_SESSION, image)
        outer = next((i for i, part in enumerate(image.place) if _DATASET_PARTS.fullmatch(part)), None)
        where = image.place[:outer] if outer is not None else ()
        name = f"{subject}_{session}" if session else subject
        if re.fullmatch(r"sub-strokecase\d+", subject, re.IGNORECASE):
            return where, name, "isles22"
        return where, name, "atlas-r2" if re.fullmatch(r"sub-r\d{3}s\d{3}", subject, re.IGNORECASE) else "bids"
    atlas = _ATLAS_R1.match(image.label)
    if atlas:
        time = next((p for p in reversed(image.place) if re.fullmatch(r"t\d{2}", p)), "")
        name = atlas["id"] if len(atlas["id"]) > 6 or not time else f"{atlas['id']}_{time}"
        return image.place, name, "atlas-r1"
    return image.place, safe_name(image.place[-1] if image.place else root_name), "folder"


def _entity(pattern: re.Pattern[str], image: _Image) -> str:
    """The BIDS entity in the file's name, or else in the folders' names; "" when nowhere."""
    for text in (image.label, *reversed(image.place)):
        found = pattern.search(text)
        if found:
            return found[1]
    return ""


def _case_of(group: _Group, problems: list[str]) -> CaseFiles | None:
    """The case of `group`; what cannot be decided goes to `problems`; None when there is nothing to segment."""
    choices: dict[str, list[_Image]] = {}
    notes: list[str] = []
    for image in group.images:
        roles = roles_in_name(image.label)
        if len(roles) > 1:
            titles = " or ".join(ROLE_TITLES[r] for r in roles)
            problems.append(f"'{image.path.name}' in case '{group.name}' may be {titles}.")
        choices.setdefault(roles[0], []).append(image)
    if not any(role in choices for role in _CASE_ROLES):
        return None
    further: list[_Image] = []
    if group.kind == "atlas-r1" and "reference" in choices:
        choices["reference"], further = _atlas_masks(choices["reference"], notes)
    chosen: dict[str, Path] = {}
    for role, images in choices.items():
        raw = [i for i in images if not i.is_derived]
        if role in INPUT_ROLES and raw and len(raw) < len(images):
            notes.append(f"The {ROLE_TITLES[role]} image under 'derivatives' was left out in favour of the raw one.")
        kept = raw if role in INPUT_ROLES and raw else images
        if len(kept) > 1:
            names = ", ".join(f"'{i.path.name}'" for i in kept)
            problems.append(f"Case '{group.name}' has {len(kept)} files for the role {ROLE_TITLES[role]}: {names}.")
        if kept:
            chosen[role] = kept[0].path
    return CaseFiles(
        name=group.name,
        files={r: chosen[r] for r in (*INPUT_ROLES, "brain_mask") if r in chosen},
        reference=chosen.get("reference"),
        extra_references=tuple(i.path for i in further),
        layout=group.kind,
        notes=tuple(notes),
    )


def _atlas_masks(masks: list[_Image], notes: list[str]) -> tuple[list[_Image], list[_Image]]:
    """ATLAS R1: the main mask and those of further lesions; masks of other names are left out and named."""
    main = [m for m in masks if _ATLAS_R1_MAIN.fullmatch(m.label)]
    further = [m for m in masks if _ATLAS_R1_FURTHER.fullmatch(m.label)]
    left_out = [m.path.name for m in masks if m not in main and m not in further]
    if not main and not further:
        return masks, []
    if left_out:
        notes.append(f"These masks belong to no known lesion of the case and were left out: {', '.join(left_out)}.")
    return (main, further) if main else (further[:1], further[1:])


def _with_own_names(cases: list[CaseFiles]) -> list[CaseFiles]:
    """Cases sorted by name; the second of the same name (upper and lower case are the same) gets ``-2``."""
    taken: set[str] = set()
    named = []
    for case in sorted(cases, key=lambda c: (c.name, sorted(str(p) for p in c.files.values()))):
        stem = name = case.name or "case"
        number = 2
        while name.lower() in taken:
            name = f"{stem}-{number}"
            number += 1
        taken.add(name.lower())
        named.append(replace(case, name=name))
    return named


def _nothing_found(root: Path, seen: list[str]) -> InputError:
    names = sorted(set(seen))
    shown = ", ".join(names[:_SHOWN_NAMES]) + (
        f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    )
    return InputError(
        "No case was found in the folder.",
        f"Looked in {root} for images (.nii, .nii.gz, .nrrd, .mha, .npy, DICOM folders) whose names speak of DWI, ADC, "
        "T1 or FLAIR: in one folder, in a folder for each case, in BIDS, ISLES'22 or ATLAS layout. "
        + (f"Seen were: {shown}." if names else "There is no file in it."),
        "Rename the files, for example dwi.nii.gz and adc.nii.gz, or name them by their roles (--dwi, --adc, --t1, …).",
    )
