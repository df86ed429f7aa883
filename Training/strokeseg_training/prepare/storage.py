"""Where prepared patients lie: a folder each, which appears whole or not at all, and a manifest that names them all.

OUT/preparation.json             what decides about the arrays; other facts need another folder
OUT/patients/ID/channels.npy     (C, x, y, z), the slices of z one after the other in the file
OUT/patients/ID/labels.npy       (x, y, z), likewise
OUT/patients/ID/brain.npy        (x, y, z), likewise
OUT/patients/ID/patient.json     hashes of these files and of the patient's own, and counts
OUT/pictures/ID.png              where they were asked for: a patient before and after the alignment
OUT/split.json, statistics.json, statistics.csv
OUT/manifest.json                written last: a set without it is not complete
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strokeseg.errors import InputError
from strokeseg_training.prepare.arrays import PatientArrays

FORMAT = 1
MANIFEST = "manifest.json"
PREPARATION = "preparation.json"
SPLIT = "split.json"
STATISTICS = "statistics.json"
STATISTICS_TABLE = "statistics.csv"
PATIENTS = "patients"
PICTURES = "pictures"
PATIENT = "patient.json"
ARRAYS = ("channels", "labels", "brain")
PARTIAL = ".partial-"
_OWN = {MANIFEST, PREPARATION, SPLIT, STATISTICS, STATISTICS_TABLE, PATIENTS, PICTURES}


def open_place(out: Path, facts: Mapping[str, Any]) -> None:
    """Make the folder, or see that it was made for the same preparation; take away what a kill left.

    Args:
        out: The folder.
        facts: `DataRecipe.preparation_facts`.

    Raises:
        InputError: It holds other things, or was prepared in another way.
    """
    if out.exists() and not out.is_dir():
        raise _refused(out, "It is a file.")
    strange = (
        [p.name for p in out.iterdir() if p.name not in _OWN and not p.name.startswith(PARTIAL)] if out.is_dir() else []
    )
    if strange:
        raise _refused(out, f"It holds other things: '{sorted(strange)[0]}'.")
    claim(
        out,
        PREPARATION,
        facts,
        f"The folder '{out.name}' was prepared in another way.",
        "Give another folder to --out: patients of one set are prepared alike.",
    )


def claim(out: Path, name: str, facts: Mapping[str, Any], title: str, next_step: str) -> None:
    """Make a folder of patients that holds its own facts, or see that it was made by the same ones, and tidy it.

    Args:
        out: The folder.
        name: Of the file with the facts in it.
        facts: JSON data.
        title: Of the error, where it was made by other facts.
        next_step: Of that error.

    Raises:
        InputError: It was made by other facts; says which.
    """
    path = out / name
    if path.is_file():
        there = read_json(path)
        differs = sorted(k for k in {*there, *facts} if there.get(k) != facts.get(k))
        if differs:
            seen = (f"'{k}' is {_short(there.get(k))} there and {_short(facts.get(k))} now" for k in differs)
            raise InputError(title, "; ".join(seen) + ".", next_step)
    (out / PATIENTS).mkdir(parents=True, exist_ok=True)
    for left in (*out.glob(f"{PARTIAL}*"), *(out / PATIENTS).glob(f"{PARTIAL}*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if not path.is_file():
        write_text(path, to_json(dict(facts)))


def stored_entry(out: Path, name: str, sources: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a finished patient says of himself; None where he is not there, damaged, or made of other files."""
    folder = out / PATIENTS / name
    try:
        entry = read_json(folder / PATIENT)
        if entry["sources"] != sources or set(entry["files"]) != {f"{a}.npy" for a in ARRAYS}:
            return None
        if any(file_sha256(folder / file) != said for file, said in entry["files"].items()):
            return None
    except (OSError, KeyError, TypeError, InputError):
        return None
    return entry


def store(out: Path, name: str, arrays: PatientArrays, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a patient, whole or not at all.

    Args:
        out: The set's folder.
        name: Of the patient.
        arrays: What is written.
        about: What else `patient.json` says.

    Returns:
        The content of `patient.json`.
    """
    place = out / PATIENTS / name
    partial = place.with_name(f"{PARTIAL}{name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = {}
    for stem in ARRAYS:
        path = partial / f"{stem}.npy"
        # A slice of z is one piece of the file: reading one does not touch the others.
        np.save(path, np.asfortranarray(getattr(arrays, stem)), allow_pickle=False)
        files[path.name] = file_sha256(path, sync=True)
    entry = {**about, "files": files, **arrays.facts}
    (partial / PATIENT).write_text(to_json(entry), encoding="utf-8", newline="\n")
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    return entry


def write_picture(out: Path, name: str, png: bytes) -> None:
    """Write a patient's picture, whole or not at all."""
    folder = out / PICTURES
    folder.mkdir(exist_ok=True)
    partial = out / f"{PARTIAL}{name}.png"
    partial.write_bytes(png)
    partial.replace(folder / f"{name}.png")


def file_sha256(path: Path, *, sync: bool = False) -> str:
    """Of a file's bytes; `sync`: after they are on the disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return digest


def to_json(data: Any) -> str:
    """Text for a file."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{PARTIAL}{path.name}")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: The file is damaged.
        OSError: It cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(data, dict):
        raise _damaged(path, f"it holds a {type(data).__name__}")
    return data


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"The file '{path.name}' of the prepared data is damaged.",
        f"The reason: {reason}.",
        "Delete it and run 'strokeseg-train prepare' again; finished patients stay.",
    )


def _refused(out: Path, why: str) -> InputError:
    return InputError(
        "The prepared data cannot be written there.",
        f"'{out.name}' is neither a new folder nor one that was prepared before. {why}",
        "Give a new folder to --out.",
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
