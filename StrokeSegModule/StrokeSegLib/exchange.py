"""Volumes between Slicer's scene and the worker: files in a temporary folder that never stays behind."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import vtk.util.numpy_support
from numpy.typing import NDArray
from slicer.i18n import tr as _

from strokeseg.errors import InputError

from .nifti_files import NiftiReading, NiftiWriting
from .placement import ijkToWorld
from .transport_base import endAll

PREFIX = "strokeseg-exchange-"
_LOCK = ".in-use"
_STEP_SECONDS = 0.01
# A folder without a lock is one that is being made; after this long, one whose maker was killed.
_MAKING_SECONDS = 3600.0


class Exchange:
    """A temporary folder that ends with its `close`, with Python, or, after a crash, when the next one is made.

    Its path is ASCII wherever the system has such a place, and holds no name of a patient or a volume.

    Attributes:
        folder: The folder.
        out: Where the worker shall put its result.
    """

    def __init__(self) -> None:
        place = asciiTemporaryFolder()
        removeLeftovers(place)
        self.folder, self._lock = _make(place)
        self.out = self.folder / "result"
        atexit.register(self._leave)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inputFile(self, role: str) -> Path:
        """Where the volume of a role goes."""
        return self.folder / f"{role}.nii"

    def close(self) -> None:
        """Remove the folder with all that is in it; what another process still holds open is left to the next start."""
        atexit.unregister(self._leave)
        self._lock.close()
        _remove(self.folder)

    def _leave(self) -> None:
        endAll()  # who writes there goes first
        self.close()


class VolumesWriting:
    """Writes the volumes of a run a little at a time: call `step` from a timer until it says True.

    What is written is what the nodes held when this was made, also if they are removed from the scene meanwhile.

    Args:
        nodesByRole: Role to scalar volume node.
        exchange: Where to.

    Attributes:
        paths: Role to path, as the worker wants them.

    Raises:
        InputError: A node has no voxels, several components, or a parent transform that is not rigid.
    """

    def __init__(self, nodesByRole: Mapping[str, Any], exchange: Exchange) -> None:
        self.paths = {role: str(exchange.inputFile(role)) for role in nodesByRole}
        volumes = {role: _volumeOf(node) for role, node in nodesByRole.items()}
        self._waiting = [(Path(self.paths[role]), *volume) for role, volume in volumes.items()]
        self._writing: NiftiWriting | None = None

    def step(self, seconds: float = _STEP_SECONDS) -> bool:
        """Write for about this long; True when everything is written.

        Raises:
            InputError: A file cannot be written.
        """
        end = time.monotonic() + seconds
        while self._writing is not None or self._waiting:
            if self._writing is None:
                self._writing = NiftiWriting(*self._waiting.pop(0))
            if not self._writing.step(max(0.0, end - time.monotonic())):
                return False
            self._writing = None
        return True

    def close(self) -> None:
        """Stop where it is."""
        self._waiting = []
        if self._writing is not None:
            self._writing.close()


def writeVolume(node: Any, path: str | Path) -> None:
    """Write a scalar volume node as NIfTI, at its place in the world: rigid parent transforms are part of it.

    Args:
        node: vtkMRMLScalarVolumeNode of any scalar type, left-handed or oblique as it may be.
        path: Ends in .nii.

    Raises:
        InputError: The node has no voxels, several components, or a parent transform that is not rigid; or the file
            cannot be written.
    """
    writing = NiftiWriting(Path(path), *_volumeOf(node))
    while not writing.step(_STEP_SECONDS):
        pass


def readLabelMap(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a mask of the worker.

    Returns:
        (x, y, z) labels in the file's voxel order, Fortran-ordered (``array.T`` is what Slicer takes), and the 4x4
        affine, voxel index to RAS mm in the world.

    Raises:
        InputError: The file is missing, damaged, or no single volume.
    """
    return _read(path, np.uint8)


def readProbability(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a probability or uncertainty map of the worker; returns and raises as `readLabelMap` does."""
    return _read(path, np.float32)


def asciiTemporaryFolder() -> Path:
    """The system's folder for temporary files, by a path of ASCII characters where there is one.

    Libraries on the way read other characters on one system and not on the next. A private folder comes before a public
    one: patients' volumes lie there for the time of a run.
    """
    usual = Path(tempfile.gettempdir()).resolve()
    for place in (usual, *_otherPlaces(usual)):
        if str(place).isascii() and place.is_dir() and os.access(place, os.W_OK):
            return place
    return usual


def removeLeftovers(place: Path) -> None:
    """Remove the folders of processes that were killed; those in use, and those of other users, stay."""
    try:
        found = [Path(entry) for entry in os.scandir(place) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for folder in found:
        if not folder.is_symlink() and _isAbandoned(folder):
            _remove(folder)


def _otherPlaces(usual: Path) -> Iterator[Path]:
    if sys.platform == "win32":
        import ctypes

        short = ctypes.create_unicode_buffer(260)
        if ctypes.windll.kernel32.GetShortPathNameW(str(usual), short, len(short)):
            yield Path(short.value)
    else:
        yield from (Path("/tmp"), Path("/var/tmp"))


def _make(place: Path) -> tuple[Path, IO[bytes]]:
    """A new folder and the lock that says it is in use; the system lets go of it when this process ends, however."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = (folder / _LOCK).open("wb")
        if _taken(lock):
            return folder, lock
        lock.close()  # another Slicer that cleans up was faster; it removes the folder


def _isAbandoned(folder: Path) -> bool:
    try:
        if not (folder / _LOCK).exists():
            return time.time() - folder.stat().st_mtime > _MAKING_SECONDS
        with (folder / _LOCK).open("r+b") as lock:
            return _taken(lock)
    except OSError:  # of another user, or gone meanwhile
        return False


def _taken(lock: IO[bytes]) -> bool:
    """Take the lock; False when another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    # A worker that was killed a moment ago may have been writing there until now.
    for pause in (0.0, 0.005, 0.01, 0.02):
        time.sleep(pause)
        with suppress(OSError):
            shutil.rmtree(folder)
        if not folder.exists():
            return


def _volumeOf(node: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels (x, y, z) as a view into the node's memory, which they keep alive, and the affine into the world."""
    image = node.GetImageData()
    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is None or 0 in image.GetDimensions():
        raise InputError(
            _("The volume '{name}' is empty.").format(name=node.GetName()),
            _("It has no voxels."),
            _("Load it again, or choose another volume."),
        )
    components = scalars.GetNumberOfComponents()
    if components != 1:
        raise InputError(
            _("The volume '{name}' is no grey-valued image.").format(name=node.GetName()),
            _("Each voxel has {count} values.").format(count=components),
            _("Choose a scalar volume; of a diffusion series extract one volume first."),
        )
    voxels = vtk.util.numpy_support.vtk_to_numpy(scalars)
    return voxels.reshape(image.GetDimensions(), order="F"), ijkToWorld(node)


def _read(path: str | Path, kept: type[np.generic]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    reading = NiftiReading(Path(path), kept)
    while not reading.step(_STEP_SECONDS):
        pass
    return reading.array, reading.affine
