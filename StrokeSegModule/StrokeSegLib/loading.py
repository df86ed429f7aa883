"""From files and folders to volumes in the scene: NIfTI and NRRD by Slicer's readers, DICOM by its own database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from strokeseg.errors import InputError

from .roles import isGrey

EXTENSIONS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr")
_DICOM = (".dcm", ".dicom", ".ima", "")
_MODALITY = "0008,0060"
# More is a data set, not a patient: Slicer would load for an hour and run out of memory.
_MOST_VOLUMES = 60


def fileFilter() -> str:
    """For a file dialog."""
    patterns = " ".join(f"*{extension}" for extension in EXTENSIONS if extension)
    return _("Volumes and DICOM") + f" ({patterns} *.dcm *.ima *.IMA);;" + _("All files") + " (*)"


def load(paths: Iterable[str | Path]) -> tuple[list[Any], list[str]]:
    """Load volumes; a folder stands for all that is in it.

    Args:
        paths: Files, folders, or both. Of DICOM files the series that they belong to are loaded.

    Returns:
        The volume nodes, and a sentence for each thing that could not be loaded.
    """
    files: list[Path] = []
    dicom: list[Path] = []
    problems: list[str] = []
    for path in map(Path, paths):
        if not path.exists():
            problems.append(_("'{name}' is not there.").format(name=path.name))
            continue
        inside = _inside(path)
        volumes = [p for p in inside if p.name.lower().endswith(EXTENSIONS)]
        series = [p for p in inside if p not in volumes and _isDicom(p)]
        if len(volumes) > _MOST_VOLUMES:
            text = _("'{name}' holds {count} volumes: it was not loaded. Choose the folder of one patient.")
            problems.append(text.format(name=path.name, count=len(volumes)))
            continue
        files += volumes
        dicom += series
        if not volumes and not series:
            problems.append(_("'{name}' holds no volume that Slicer reads.").format(name=path.name))
    nodes: list[Any] = []
    for file in dict.fromkeys(files):
        try:
            nodes.append(slicer.util.loadVolume(str(file), {"show": False}))
        except RuntimeError:
            problems.append(_("Slicer could not read '{name}'.").format(name=file.name))
    if dicom:
        try:
            nodes += _loadDicom(dicom)
        except InputError as error:
            problems.append(str(error))
    grey = [node for node in nodes if isGrey(node)]
    others = [node.GetName() for node in nodes if node not in grey]
    problems += [_("'{name}' has several values a voxel: no scan.").format(name=name) for name in others]
    return grey, problems


def _inside(path: Path) -> list[Path]:
    """The files of a folder and of all below it, but for hidden ones: macOS puts one beside each that it copies."""
    if not path.is_dir():
        return [path]
    found = [p for p in path.rglob("*") if p.is_file()]
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts))


def _loadDicom(files: list[Path]) -> list[Any]:
    from DICOMLib import DICOMUtils

    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        raise InputError(
            _("DICOM files cannot be loaded."),
            _("Slicer's DICOM database is not open."),
            _("Open the module DICOM once, then load the files again."),
        )
    folders = {file.parent for file in files}
    for folder in sorted(folder for folder in folders if not folders & set(folder.parents)):
        DICOMUtils.importDicom(str(folder), database)  # and all below it
    wanted = {file.resolve() for file in files}
    nodes = []
    for series in _series(database):
        known = database.filesForSeries(series)
        if not any(Path(path).resolve() in wanted for path in known):
            continue
        if database.fileValue(known[0], _MODALITY) not in ("MR", ""):
            continue
        try:
            identifiers = DICOMUtils.loadSeriesByUID([series])
        except (OSError, RuntimeError, ValueError):
            continue
        nodes += [slicer.mrmlScene.GetNodeByID(i) for i in identifiers or []]
    found = [node for node in nodes if node is not None]
    if not found:
        raise InputError(
            _("No volume was loaded."),
            _("The DICOM files hold no MR series that Slicer can read."),
            _("Look at them in the module DICOM."),
        )
    return found


def _series(database: Any) -> list[str]:
    found = []
    for patient in database.patients():
        for study in database.studiesForPatient(patient):
            found += list(database.seriesForStudy(study))
    return found


def _isDicom(path: Path) -> bool:
    """By its mark; files of the standard's part 10 have it, and scanners write no others."""
    if path.suffix.lower() not in _DICOM and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
