"""The run on disk: checkpoints that appear whole or not at all, and the averaged weights as they are exported.

``checkpoints/step-00000500/`` holds ``weights.safetensors`` and ``averaged.safetensors`` (fp32, for going on),
``snapshot.safetensors`` (fp16, averaged: for the export, and for starting another run), ``state.pt`` (the optimiser and
counters, read with ``weights_only``), and ``card.json`` (the fields for the export).
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from strokeseg.errors import InputError, ModelError
from strokeseg.networks.state import shared_names
from strokeseg_training._export_weights import half_weights

FOLDER = "checkpoints"
BEST = "best"
SNAPSHOT = "snapshot.safetensors"
CARD = "card.json"
_NAME = re.compile(r"step-(\d{8})")
_PARTIAL = ".partial-"


@dataclass(frozen=True, eq=False)
class Saved:
    """A run as it was saved.

    Attributes:
        weights: Of the network, fp32.
        averaged: fp32.
        state: Optimiser, scaler and counters, plain data and tensors.
    """

    weights: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(run: Path, step: int, saved: Saved, card: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint and delete older ones beyond the newest `keep`.

    Raises:
        InputError: The folder cannot be written to.
        ModelError: A weight is no finite number; earlier checkpoints stay.
    """
    snapshot = half_weights(saved.averaged)
    folder = folder_of(run, step)
    partial = folder.with_name(_PARTIAL + folder.name)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        (partial / "weights.safetensors").write_bytes(_full(saved.weights))
        (partial / "averaged.safetensors").write_bytes(_full(saved.averaged))
        _write_snapshot(partial, snapshot, card)
        with (partial / "state.pt").open("wb") as file:
            torch.save(dict(saved.state), file)
            # The last file: once the folder has its name, what is in it must survive a loss of power.
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        for _, old in _checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    except OSError as error:
        raise _cannot_write(run, error) from error
    return folder


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint after a step lies."""
    return run / FOLDER / f"step-{step:08d}"


def save_best(run: Path, averaged: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Keep the averaged weights of the best validation so far in ``best/``."""
    partial, folder = run / (_PARTIAL + BEST), run / BEST
    snapshot = half_weights(averaged)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_snapshot(partial, snapshot, card)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError as error:
        raise _cannot_write(run, error) from error


def latest(run: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest checkpoint, None where there is none."""
    found = _checkpoints(run)
    return found[-1] if found else None


def load_checkpoint(folder: Path) -> Saved:
    """A checkpoint, on the CPU.

    Raises:
        ModelError: A file is missing or damaged, or holds code.
    """
    try:
        return Saved(
            load_file(folder / "weights.safetensors"),
            load_file(folder / "averaged.safetensors"),
            torch.load(folder / "state.pt", map_location="cpu", weights_only=True),
        )
    except (EOFError, OSError, RuntimeError, SafetensorError, ValueError, pickle.UnpicklingError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The checkpoint '{folder.name}' cannot be read.",
            f"It is damaged: {lines[0][:200]}",
            "Delete its folder to go on from the one before, or start a new run with --init-from and a snapshot.",
        ) from error


def _checkpoints(run: Path) -> list[tuple[int, Path]]:
    """Steps and folders, the newest last."""
    place = run / FOLDER
    found = [(int(m[1]), p) for p in (place.iterdir() if place.is_dir() else ()) if (m := _NAME.fullmatch(p.name))]
    return sorted(found)


def _write_snapshot(folder: Path, snapshot: bytes, card: Mapping[str, Any]) -> None:
    (folder / SNAPSHOT).write_bytes(snapshot)
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _full(state: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file with every digit, a tensor of several names once."""
    return save({group[0]: state[group[0]].detach().cpu().contiguous().clone() for group in shared_names(state)})


def _cannot_write(run: Path, error: OSError) -> InputError:
    return InputError(
        "The run could not be saved.",
        f"The system said about '{run.name}': {error.strerror or error}.",
        "Make room or free the folder, then go on with --resume, or start again where no checkpoint is there yet.",
    )
