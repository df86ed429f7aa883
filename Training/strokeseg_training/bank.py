"""`Bank`: prepared patients on disk, read through memory maps, for training without making them again.

A bank is a folder with ``manifest.json`` and one folder a shard. Of each patient only the voxels of the brain are kept
(the channels show no others): images as half floats over the patient's own brain median, with the median beside them,
ADC as half floats, lesion as 255 * fraction, tissue as its label. `bank_writing` makes one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from strokeseg.errors import InputError
from strokeseg_training.sample import Sample

FORMAT = 1
MANIFEST = "manifest.json"
LESION_STEPS = 255.0


@dataclass(frozen=True)
class Shard:
    """A part of a bank.

    Attributes:
        name: Of its folder.
        seeds: Of its patients.
        sha256: File's name to its hash.
    """

    name: str
    seeds: tuple[int, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """What a bank says about itself.

    Attributes:
        about: What made it: at least ``generator_version`` and ``ranges_sha256`` where a generator did.
        shape: Voxels along (x, y, z).
        spacing_mm: Along (x, y, z).
        roles: Of the images.
        shards: In order.
    """

    about: Mapping[str, Any]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    roles: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def seeds(self) -> list[int]:
        """Of all patients, in order."""
        return [seed for shard in self.shards for seed in shard.seeds]

    def to_json(self) -> str:
        """Text for the file."""
        return json.dumps(
            {
                "format": FORMAT,
                "about": dict(self.about),
                "shape": list(self.shape),
                "spacing_mm": list(self.spacing_mm),
                "roles": list(self.roles),
                "patients": len(self.seeds),
                "shards": [{"name": s.name, "seeds": list(s.seeds), "sha256": dict(s.sha256)} for s in self.shards],
            },
            indent=1,
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bank.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise InputError(
                f"The bank '{folder.name}' cannot be read.",
                f"It has format {data['format']}, this version reads format {FORMAT}.",
                "Write it again with this version.",
            )
        shards = tuple(Shard(s["name"], tuple(s["seeds"]), s["sha256"]) for s in data["shards"])
        x, y, z = data["shape"]
        a, b, c = data["spacing_mm"]
        return Manifest(data["about"], (x, y, z), (a, b, c), tuple(data["roles"]), shards)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no bank '{folder.name}'.",
            f"'{folder}' has no {MANIFEST}.",
            "Give a folder that 'strokeseg-train bank' wrote.",
        ) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The bank '{folder.name}' cannot be read.",
            f"Its {MANIFEST} is damaged: {type(error).__name__}: {error}.",
            "Write the bank again; finished shards are of no use without it.",
        ) from error


class Bank(Dataset[Sample]):
    """Patients by number.

    Shards are opened, and compared with their checksums, when a patient of theirs is asked for the first time.

    Args:
        folder: That a `BankWriter` filled.

    Raises:
        InputError: There is no bank, or it has no patient yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.manifest = read_manifest(self.folder)
        counts = [len(s.seeds) for s in self.manifest.shards]
        if not sum(counts):
            raise InputError(
                f"The bank '{self.folder.name}' is empty.",
                "No shard of it was finished.",
                "Run 'strokeseg-train bank' on it again; it goes on where it stopped.",
            )
        self._ends = np.cumsum(counts)
        self._open: dict[int, dict[str, NDArray[Any]]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the files itself.
        return {**self.__dict__, "_open": {}}

    def __getitem__(self, index: int) -> Sample:
        """One patient (N = 1), images 0 outside the brain.

        Raises:
            InputError: A file of its shard is damaged or missing.
        """
        return self.samples([index])

    def samples(self, indices: Sequence[int]) -> Sample:
        """Several patients in one sample."""
        rows = [self._row(int(i)) for i in indices]
        manifest = self.manifest
        return Sample(
            images={r: torch.stack([row[r] for row in rows]) for r in manifest.roles},
            brain=torch.stack([row["brain"] for row in rows]),
            lesion=torch.stack([row["lesion"] for row in rows]),
            tissue=torch.stack([row["tissue"] for row in rows]),
            midplane=torch.stack([row["midplane"] for row in rows]),
            spacing_mm=manifest.spacing_mm,
            seeds=tuple(self._seed(int(i)) for i in indices),
        )

    def lesion_ml(self) -> NDArray[np.float64]:
        """Volume of each patient's infarct in ml, in order.

        Reads every shard's lesions; checksums are compared when a patient is asked for.

        Raises:
            InputError: A file is missing or cannot be read.
        """
        step_ml = math.prod(self.manifest.spacing_mm) / 1000.0 / LESION_STEPS
        steps: list[int] = []
        for shard in self.manifest.shards:
            try:
                lesion, offsets = (
                    np.load(self.folder / shard.name / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                    for name in ("lesion", "offsets")
                )
            except (OSError, ValueError) as error:
                raise self._damaged(shard, f"Its lesions cannot be read: {error}.") from error
            steps += [int(lesion[first:end].sum(dtype=np.int64)) for first, end in pairwise(offsets.tolist())]
        return np.array(steps) * step_ml

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row of a patient."""
        if not 0 <= index < len(self):
            raise IndexError(f"patient {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)

    def _seed(self, index: int) -> int:
        number, row = self._place(index)
        return self.manifest.shards[number].seeds[row]

    def _row(self, index: int) -> dict[str, Tensor]:
        number, row = self._place(index)
        if number not in self._open:
            self._open[number] = self._opened(self.manifest.shards[number])
        shard, shape = self._open[number], self.manifest.shape
        bits = np.unpackbits(shard["brain"][row], count=math.prod(shape))
        brain = torch.from_numpy(bits).view(shape).bool()
        place = slice(int(shard["offsets"][row]), int(shard["offsets"][row + 1]))
        scales = dict(zip(self.manifest.roles, shard["scales"][row], strict=True))

        def whole(values: NDArray[Any], kind: torch.dtype) -> Tensor:
            volume = torch.zeros(shape, dtype=kind)
            volume[brain] = torch.from_numpy(np.array(values[place])).to(kind)
            return volume

        found = {r: whole(shard[r], torch.float32) * float(scales[r]) for r in self.manifest.roles}
        return {
            **found,
            "brain": brain,
            "lesion": whole(shard["lesion"], torch.float32) / LESION_STEPS,
            "tissue": whole(shard["tissue"], torch.uint8),
            "midplane": torch.from_numpy(np.array(shard["midplane"][row])),
        }

    def _opened(self, shard: Shard) -> dict[str, NDArray[Any]]:
        arrays = {}
        for name, expected in shard.sha256.items():
            path = self.folder / shard.name / name
            try:
                with path.open("rb") as file:
                    seen = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise self._damaged(shard, f"'{name}' cannot be read: {error.strerror}.") from error
            if seen != expected:
                raise self._damaged(shard, f"The checksum of '{name}' is {seen[:12]}, not {expected[:12]}.")
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        return arrays

    def _damaged(self, shard: Shard, cause: str) -> InputError:
        return InputError(
            f"The shard '{shard.name}' of the bank '{self.folder.name}' is damaged.",
            cause,
            f"Delete the folder '{shard.name}' and run 'strokeseg-train bank' again: it writes what is missing.",
        )
