"""Doubles of `slicer.dicomDatabase` and `DICOMLib.DICOMUtils`: series are indexed and read with SimpleITK.

Names as in Slicer/Slicer Modules/Scripted/DICOMLib/DICOMUtils.py and commontk/CTK Libs/DICOM/Core/ctkDICOMDatabase.h.
Slicer reads a series through plugins (oblique, irregular and multi-frame series, several candidates to choose from);
here a series is one scalar volume.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from PySide6 import QtCore
from PySide6.QtCore import Property

_PATIENT, _STUDY, _SERIES, _INSTANCE = "0010,0020", "0020,000d", "0020,000e", "0008,0018"


class ctkDICOMDatabase(QtCore.QObject):
    """What was imported: files and their tags; `tags` may also be filled by a test."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[tuple[str, str], str] = {}
        self._files: dict[str, str] = {}
        self._places: dict[str, tuple[str, str, str]] = {}

    def add(self, path: str) -> bool:
        """Index one file; False where it is no DICOM file."""
        reader = sitk.ImageFileReader()
        reader.SetFileName(path)
        reader.SetImageIO("GDCMImageIO")
        reader.LoadPrivateTagsOn()
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return False
        values = {key.replace("|", ",").lower(): reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
        uid = values.get(_INSTANCE, path)
        self._files[uid] = path
        self._places[uid] = (values.get(_PATIENT, ""), values.get(_STUDY, ""), values.get(_SERIES, ""))
        self.tags.update({(uid, key): value for key, value in values.items()})
        return True

    def _distinct(self, level: int, parent: str | None) -> list[str]:
        rows = [p for p in self._places.values() if parent is None or p[level - 1] == parent]
        return list(dict.fromkeys(p[level] for p in rows))

    def patients(self) -> list[str]:
        return self._distinct(0, None)

    def studiesForPatient(self, patient: str) -> list[str]:
        return self._distinct(1, patient)

    def seriesForStudy(self, study: str) -> list[str]:
        return self._distinct(2, study)

    def instancesForSeries(self, series: str) -> list[str]:
        return [uid for uid, place in self._places.items() if place[2] == series]

    def filesForSeries(self, series: str) -> list[str]:
        return [self._files[uid] for uid in self.instancesForSeries(series)]

    def fileForInstance(self, uid: str) -> str:
        return self._files.get(uid, "")

    def instanceValue(self, uid: str, tag: str) -> str:
        return self.tags.get((uid, tag), self.tags.get((uid, tag.lower()), ""))

    def fileValue(self, path: str, tag: str) -> str:
        return next((self.instanceValue(uid, tag) for uid, known in self._files.items() if known == path), "")

    isOpen = Property(bool, lambda self: True)


def _database() -> ctkDICOMDatabase:
    return slicer.app._native.state.dicom_database


def importDicom(dicomDataDir: str, dicomDatabase: Any = None, copyFiles: bool = False) -> bool:
    """Index every DICOM file below a folder."""
    database = dicomDatabase._native if dicomDatabase is not None else _database()
    for path in sorted(Path(dicomDataDir).rglob("*")):
        if path.is_file():
            database.add(str(path))
    return True


def loadSeriesByUID(seriesUIDs: list[str]) -> list[str]:
    """Load series as scalar volumes; the IDs of their nodes."""
    if isinstance(seriesUIDs, str):
        raise TypeError("loadSeriesByUID() takes a list")
    return [_load(uid) for uid in seriesUIDs]


def _load(series: str) -> str:
    database = _database()
    files = database.filesForSeries(series)
    if not files:
        raise OSError(f"No files found for series {series}")
    folder = str(Path(files[0]).parent)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series) or tuple(files)
    image = sitk.ReadImage(names)
    direction = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3], ijk_to_ras[:3, 3] = direction, image.GetOrigin()
    ijk_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_ras  # ITK writes LPS
    uids = [uid for name in names for uid, known in database._files.items() if known == name]
    description = database.instanceValue(uids[0], "0008,103e") or "Unnamed series"
    node = slicer.util.addVolumeFromArray(sitk.GetArrayFromImage(image), ijkToRAS=ijk_to_ras, name=description)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(uids))
    node.CreateDefaultDisplayNodes()
    return str(node.GetID())


def loadPatientByUID(patientUID: str) -> list[str]:
    """Load every series of a patient."""
    database = _database()
    studies = database.studiesForPatient(patientUID)
    return loadSeriesByUID([series for study in studies for series in database.seriesForStudy(study)])


@contextmanager
def TemporaryDICOMDatabase(directory: str | None = None) -> Iterator[Any]:
    """An own empty database for a while."""
    from slicer_harness.wrapper import wrap

    state = slicer.app._native.state
    before = state.dicom_database
    state.dicom_database = ctkDICOMDatabase()
    slicer.dicomDatabase = wrap(state.dicom_database)
    try:
        yield slicer.dicomDatabase
    finally:
        state.dicom_database = before
        slicer.dicomDatabase = wrap(before)


def make_module() -> types.ModuleType:
    """The module `DICOMLib` with `DICOMUtils`."""
    utils = types.ModuleType("DICOMLib.DICOMUtils", __doc__)
    for function in (importDicom, loadSeriesByUID, loadPatientByUID, TemporaryDICOMDatabase):
        setattr(utils, function.__name__, function)
    library = types.ModuleType("DICOMLib", __doc__)
    library.DICOMUtils = utils  # type: ignore[attr-defined]
    return library
