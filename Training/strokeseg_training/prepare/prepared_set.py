"""`PreparedSet`: the read side of a prepared set, through memory maps; no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.volume import Grid
from strokeseg_training.datasets.patients import without_command
from strokeseg_training.datasets.splits import Split, read_split
from strokeseg_training.prepare import storage
from strokeseg_training.recipe_data import Axis, Slices

Side = Literal["train", "val", "test"]

_AGAIN = "Prepare again, with the recipe, the data and the --set of the first time"
# So many patients are told of by name where the sides are mixed up.
_SHOWN = 10


class PreparedVolume(NamedTuple):
    """One patient's arrays, mapped from their files and not to be written to.

    Attributes:
        channels: float16 or float32 (C, x, y, z), 0 outside the brain.
        labels: uint8 (x, y, z), value of a class, 0 for background.
        brain: uint8 (x, y, z), 1 in the brain.
    """

    channels: NDArray[Any]
    labels: NDArray[np.uint8]
    brain: NDArray[np.uint8]


@dataclass(frozen=True)
class PreparedPatient:
    """What the manifest says of a patient.

    Attributes:
        id: Names the examination.
        person: Who was examined.
        centre: Where, or "".
        side: Of the split.
        grid: The model's grid.
        facts: The rest of ``patient.json``: ``sources``, ``files``, ``classes``, ``planes``, ``notes`` and counts.
    """

    id: str
    person: str
    centre: str
    side: Side
    grid: Grid
    facts: Mapping[str, Any]

    def planes(self, axis: Axis, which: Literal["brain", "lesion", "all"]) -> list[int]:
        """The planes along an axis that show brain, a lesion, or anything."""
        planes, size = self.facts["planes"][axis], self.grid.shape[("sagittal", "coronal", "axial").index(axis)]
        if which == "lesion":
            return list(planes["lesion"])
        if which == "all":
            return list(range(size))
        return list(range(planes["brain"][0], planes["brain"][1] + 1)) if planes["brain"] else []


class PreparedSet:
    """Patients by number, sorted by id.

    Files are opened when a patient is asked for the first time, in the process that asks.

    Args:
        folder: That ``strokeseg-train prepare`` wrote.

    Attributes:
        manifest: Content of ``manifest.json``.
        split: Who is on which side; its hash belongs to every result.
        patients: In order.

    Raises:
        InputError: There is no complete set, it is of another format, its split was changed, or its manifest has
            patients on other sides than the split.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.manifest = _manifest(self.folder)
        self.split: Split = read_split(self.folder / storage.SPLIT)
        if self.split.sha256 != self.manifest["split_sha256"]:
            raise InputError(
                f"The prepared set '{self.folder.name}' does not fit its split.",
                f"The split's hash is {self.split.sha256[:12]}, the manifest says "
                f"{self.manifest['split_sha256'][:12]}.",
                f"{_AGAIN}; finished patients stay: {self._command()}",
            )
        self.patients = tuple(_patient(entry) for entry in self.manifest["patients"])
        self._refuse_other_sides()
        self._open: dict[int, PreparedVolume] = {}

    def __len__(self) -> int:
        return len(self.patients)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files itself.
        return {**self.__dict__, "_open": {}}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.manifest["channels"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; the first has the value 1."""
        return tuple(self.manifest["classes"])

    @property
    def slices(self) -> Slices | None:
        """What a network in two dimensions sees, as the recipe said."""
        said = self.manifest["slices"]
        return None if said is None else Slices.model_validate(said)

    @property
    def about(self) -> dict[str, Any]:
        """What every result carries: recipe, seeds and hashes, no paths."""
        keys = ("recipe", "recipe_sha256", "preparation_sha256", "seed", "split_sha256", "left_out")
        return {**{k: self.manifest[k] for k in keys}, "split_rule": dict(self.split.rule), "patients": len(self)}

    def side(self, side: Side) -> list[int]:
        """Numbers of the patients on a side."""
        return [n for n, patient in enumerate(self.patients) if patient.side == side]

    def volume(self, number: int) -> PreparedVolume:
        """A patient's arrays.

        Raises:
            InputError: A file is missing or damaged; names the patient.
        """
        if number not in self._open:
            self._open[number] = self._opened(self.patients[number])
        return self._open[number]

    def plane(self, number: int, plane: int, axis: Axis = "axial") -> PreparedVolume:
        """One plane of a patient, (C, u, v) and twice (u, v): views whose axes keep the order right, front, top."""
        at, volume = ("sagittal", "coronal", "axial").index(axis), self.volume(number)
        place: tuple[Any, ...] = (*(slice(None),) * at, plane)
        return PreparedVolume(volume.channels[(slice(None), *place)], volume.labels[place], volume.brain[place])

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            InputError: Names all patients whose files are not what they were.
        """
        damaged = [p.id for p in self.patients if not self._is_whole(p)]
        if damaged:
            raise InputError(
                f"The prepared set '{self.folder.name}' is damaged.",
                "Files are missing or changed of: " + ", ".join(damaged) + ".",
                self._repair(damaged),
            )

    def _is_whole(self, patient: PreparedPatient) -> bool:
        place = self.folder / storage.PATIENTS / patient.id
        try:
            return all(storage.file_sha256(place / file) == said for file, said in patient.facts["files"].items())
        except OSError:
            return False

    def _opened(self, patient: PreparedPatient) -> PreparedVolume:
        place = self.folder / storage.PATIENTS / patient.id
        shape = patient.grid.shape
        expected = {"channels": (len(self.channels), *shape), "labels": shape, "brain": shape}
        arrays = {}
        for stem, wanted in expected.items():
            try:
                arrays[stem] = np.load(place / f"{stem}.npy", mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise self._damaged(patient, f"'{stem}.npy' cannot be read: {error}.") from error
            if arrays[stem].shape != wanted:
                raise self._damaged(patient, f"'{stem}.npy' has the shape {arrays[stem].shape}, not {wanted}.")
        return PreparedVolume(**arrays)

    def _damaged(self, patient: PreparedPatient, cause: str) -> InputError:
        return InputError(
            f"The prepared patient '{patient.id}' is damaged.",
            cause,
            self._repair([patient.id]),
        )

    def _refuse_other_sides(self) -> None:
        """Refuse a manifest that is not the split's: what is trained on is read from it, what is clean from the split.

        Raises:
            InputError: A patient is on another side, or in one of the two alone.
        """
        said = {name: side for side, names in self.split.sides.items() for name in names}
        there = {patient.id: patient.side for patient in self.patients}
        differs = [
            f"'{name}' is in {_place_of(name, there)} of the manifest and in {_place_of(name, said)} of the split"
            for name in sorted({*said, *there})
            if said.get(name) != there.get(name)
        ]
        if differs:
            more = f"; and {len(differs) - _SHOWN} more" if len(differs) > _SHOWN else ""
            raise InputError(
                f"The prepared set '{self.folder.name}' does not fit its split.",
                f"Sides differ: {'; '.join(differs[:_SHOWN])}{more}.",
                f"{_AGAIN}; finished patients stay: {self._command()}",
            )

    def _repair(self, damaged: Sequence[str]) -> str:
        """How to go on with damaged patients, and without them."""
        who = "this patient" if len(damaged) == 1 else "these patients"
        return (
            f"{_AGAIN}: it makes what is damaged or missing. To go on without {who}, add "
            f"{without_command(damaged, ())} to the command: {self._command()}"
        )

    def _command(self) -> str:
        """What prepares the set again; it holds no path but its own."""
        recipe, out = str(self.manifest["recipe"]), str(self.folder)
        command = ["strokeseg-train", "prepare", "--recipe", recipe, "--data", "DATA", "--out", out]
        return without_command(self.manifest["left_out"], command)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        data = storage.read_json(folder / storage.MANIFEST)
    except OSError as error:
        raise InputError(
            f"There is no prepared set '{folder.name}'.",
            f"'{folder}' has no {storage.MANIFEST}: nothing was prepared there, or the run was interrupted.",
            "Run 'strokeseg-train prepare' with this folder as --out; it goes on where it stopped.",
        ) from error
    if data.get("format") != storage.FORMAT:
        raise InputError(
            f"The prepared set '{folder.name}' cannot be read.",
            f"It has format {data.get('format')}, this version reads format {storage.FORMAT}.",
            "Prepare the data again with this version.",
        )
    return data


def _place_of(name: str, sides: Mapping[str, str]) -> str:
    return f"'{sides[name]}'" if name in sides else "none"


def _patient(entry: Mapping[str, Any]) -> PreparedPatient:
    own = ("id", "person", "centre", "side", "shape", "affine")
    x, y, z = entry["shape"]
    facts = {k: v for k, v in entry.items() if k not in own}
    grid = Grid((x, y, z), np.array(entry["affine"]))
    return PreparedPatient(entry["id"], entry["person"], entry["centre"], entry["side"], grid, facts)
