"""Writing a bank: shard by shard, each appearing whole or not at all, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from strokeseg.errors import InputError
from strokeseg.events import Monitor
from strokeseg_training.bank import LESION_STEPS, MANIFEST, Manifest, Shard, read_manifest
from strokeseg_training.sample import Sample

_PARTIAL = ".partial-"
_LARGEST_HALF = 65504.0


def missing_seeds(seeds: Sequence[int], folder: str | Path) -> list[int]:
    """Those of `seeds` that a bank does not have yet, in order; all where there is no bank. Damaged files do not count.

    What a killed run left is taken away, and a shard whose folder is gone, too.
    """
    place = Path(folder).expanduser()
    if not (place / MANIFEST).is_file():
        return list(seeds)
    have = set(_tidied(place).seeds)
    return [seed for seed in seeds if seed not in have]


def write_bank(
    samples: Iterable[Sample],
    folder: str | Path,
    *,
    about: Mapping[str, Any],
    shard_size: int = 64,
    monitor: Monitor | None = None,
) -> Manifest:
    """Append patients to a bank.

    To go on after a kill, give the samples of `missing_seeds` alone.

    Args:
        samples: Of any N, all on one grid with the same roles.
        folder: New, or a bank.
        about: What makes them, JSON data: ``generator_version``, ``ranges_sha256`` and the like.
        shard_size: Patients a shard.
        monitor: Hears of each patient; when it says so, the run ends at a patient, finished shards staying.

    Raises:
        InputError: The folder is something else, a bank made by something else, or cannot be written to; a patient
            has another grid, other roles, or values that are no numbers.
        Cancelled: The monitor said so.
    """
    place, monitor = Path(folder).expanduser(), monitor or Monitor()
    _check_place(place, about)
    manifest: Manifest | None = _tidied(place) if (place / MANIFEST).is_file() else None
    rows: list[_Row] = []
    written = 0
    try:
        for sample in samples:
            for row in _rows_of(sample):
                monitor.check()
                manifest = manifest or Manifest(about, row.shape, sample.spacing_mm, tuple(sorted(row.images)), ())
                _refuse_other(row, sample, manifest)
                rows.append(row)
                written += 1
                monitor.progress(written, 0, f"{written} patients")
                if len(rows) == shard_size:
                    manifest = _with_shard(manifest, rows, place)
                    rows = []
        if rows:
            assert manifest is not None
            manifest = _with_shard(manifest, rows, place)
    except OSError as error:
        raise InputError(
            "The bank could not be written.",
            f"The system said about '{place.name}': {error.strerror or error}.",
            "Make room or choose another folder; finished shards stay, and the same command goes on.",
        ) from error
    if manifest is None:
        raise InputError("The bank has no patients.", "Nothing was given to write.", "Give at least one seed.")
    return manifest


@dataclass(frozen=True, eq=False)
class _Row:
    """One patient, packed: values of the brain's voxels in the order of the grid."""

    seed: int
    shape: tuple[int, int, int]
    brain: NDArray[np.uint8]
    images: dict[str, NDArray[np.float16]]
    scales: dict[str, float]
    lesion: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    midplane: NDArray[np.float32]


def _rows_of(sample: Sample) -> Iterable[_Row]:
    for n, seed in enumerate(sample.seeds):
        brain = sample.brain[n].cpu()
        images, scales = {}, {}
        for role, volume in sample.images.items():
            values = volume[n].cpu()[brain].float()
            if not bool(values.isfinite().all()):
                raise InputError(
                    "A patient cannot be kept.",
                    f"The image '{role}' of the seed {seed} has values in the brain that are no finite numbers.",
                    "Leave this seed out, and look at what made it.",
                )
            # ADC has a unit of its own; signals have the scanner's, which half floats may not reach.
            median = float(values.median()) if len(values) else 0.0
            scales[role] = median if role != "adc" and median > 0 else 1.0
            images[role] = (values / scales[role]).clamp(-_LARGEST_HALF, _LARGEST_HALF).half().numpy()
        yield _Row(
            seed=seed,
            shape=sample.shape,
            brain=np.packbits(brain.numpy()),
            images=images,
            scales=scales,
            lesion=(sample.lesion[n].cpu()[brain].clamp(0, 1) * LESION_STEPS).round().to(torch.uint8).numpy(),
            tissue=sample.tissue[n].cpu()[brain].to(torch.uint8).numpy(),
            midplane=sample.midplane[n].cpu().float().numpy(),
        )


def _with_shard(manifest: Manifest, rows: list[_Row], place: Path) -> Manifest:
    """Write a shard, then say so in the manifest: a shard that the manifest does not name does not count."""
    taken = [int(s.name.rsplit("-", 1)[1]) for s in manifest.shards]
    name = f"shard-{max(taken, default=-1) + 1:05d}"
    partial = place / f"{_PARTIAL}{name}"
    partial.mkdir(parents=True)
    sizes = [len(r.lesion) for r in rows]
    arrays: dict[str, NDArray[Any]] = {
        "brain": np.stack([r.brain for r in rows]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "scales": np.array([[r.scales[role] for role in manifest.roles] for r in rows], dtype=np.float32),
        "lesion": np.concatenate([r.lesion for r in rows]),
        "tissue": np.concatenate([r.tissue for r in rows]),
        "midplane": np.stack([r.midplane for r in rows]),
        **{role: np.concatenate([r.images[role] for r in rows]) for role in manifest.roles},
    }
    hashes = {}
    for stem, array in arrays.items():
        path = partial / f"{stem}.npy"
        np.save(path, array, allow_pickle=False)
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    partial.rename(place / name)
    extended = replace(manifest, shards=(*manifest.shards, Shard(name, tuple(r.seed for r in rows), hashes)))
    _write_manifest(extended, place)
    return extended


def _write_manifest(manifest: Manifest, place: Path) -> None:
    partial = place / f"{_PARTIAL}{MANIFEST}"
    partial.write_text(manifest.to_json() + "\n", encoding="utf-8")
    partial.replace(place / MANIFEST)


def _tidied(place: Path) -> Manifest:
    """The manifest, less shards whose folder is gone; folders that it does not name, left by a kill, are deleted."""
    manifest = read_manifest(place)
    present = tuple(s for s in manifest.shards if (place / s.name).is_dir())
    named = {s.name for s in present}
    for path in place.iterdir():
        if path.is_dir() and path.name.removeprefix(_PARTIAL).startswith("shard-") and path.name not in named:
            shutil.rmtree(path)
    if present != manifest.shards:
        manifest = replace(manifest, shards=present)
        _write_manifest(manifest, place)
    return manifest


def _check_place(place: Path, about: Mapping[str, Any]) -> None:
    if not (place / MANIFEST).is_file():
        leftovers = (_PARTIAL, "shard-")
        if place.exists() and (not place.is_dir() or any(not p.name.startswith(leftovers) for p in place.iterdir())):
            raise InputError(
                "The bank cannot be written there.",
                f"'{place.name}' is neither a bank nor an empty folder.",
                "Give a new folder, or one that holds a bank.",
            )
        # Killed before its first shard was named.
        for path in place.iterdir() if place.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    there = json.loads(json.dumps(dict(read_manifest(place).about)))
    wanted = json.loads(json.dumps(dict(about)))
    differs = sorted(k for k in {*there, *wanted} if there.get(k) != wanted.get(k))
    if differs:
        raise InputError(
            f"The bank '{place.name}' was made in another way.",
            "; ".join(f"'{k}' is {there.get(k)!r} there and {wanted.get(k)!r} now" for k in differs) + ".",
            "Give another folder: patients of one bank are made alike.",
        )


def _refuse_other(row: _Row, sample: Sample, manifest: Manifest) -> None:
    seen = (row.shape, tuple(sample.spacing_mm), tuple(sorted(row.images)))
    if seen != (manifest.shape, manifest.spacing_mm, manifest.roles):
        raise InputError(
            "A patient does not fit into the bank.",
            f"The seed {row.seed} has the grid {row.shape} at {sample.spacing_mm} mm with {', '.join(seen[2])}; the "
            f"bank has {manifest.shape} at {manifest.spacing_mm} mm with {', '.join(manifest.roles)}.",
            "Write it into a bank of its own.",
        )
