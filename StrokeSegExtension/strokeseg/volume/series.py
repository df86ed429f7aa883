"""Which volume of a four-dimensional image is meant: by its b-value, by its number, or refused with the choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strokeseg.volume.source import ImageSource, reading_errors, unusable

B0_LIMIT = 50.0
"""Volumes up to this b-value (s/mm²) count as b = 0: scanners use small crusher gradients there."""
SHELL_GAP = 50.0
"""b-values of one shell lie no further apart than this from one to the next; scanners report 995 or 1005 for 1000."""
USUAL_B = 1000.0
"""The b-value of clinical stroke DWI (s/mm²)."""
USUAL_REACH = 300.0
HIGH_B = 1500.0
_LISTED = 12


@dataclass(frozen=True)
class Choice:
    """The volumes that make up one image.

    Args:
        indices: Volumes to be combined.
        b_value: Their mean b-value where it is known.
        geometric: Whether they are combined by the geometric instead of the arithmetic mean.
        note: What was chosen, for the reader of the result.
    """

    indices: tuple[int, ...]
    b_value: float | None = None
    geometric: bool = False
    note: str = ""


def b_values_beside(path: Path, name: str, volumes: int) -> tuple[float, ...] | None:
    """b-values of the text file beside an image, one a volume.

    Looked for are ``<stem>.bval`` and ``.bvals``, then in BIDS the ``*_dwi.bval`` whose name parts all occur in the
    image's name (the most specific one).

    Args:
        path: The image.
        name: Its name for messages.
        volumes: How many b-values are needed.

    Returns:
        The b-values in s/mm², or None when there is no such file.

    Raises:
        InputError: The file does not hold one number of at least 0 for each volume of a four-dimensional image.
    """
    stem = _stem(path.name)
    file = next((p for p in (path.with_name(stem + ".bval"), path.with_name(stem + ".bvals")) if p.is_file()), None)
    file = file or _bids_file(path, stem)
    if file is None:
        return None
    with reading_errors(file.name), file.open("rb") as opened:
        text = opened.read(1 << 20).decode("ascii", errors="replace")
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(v) and v >= 0 for v in values):
        raise unusable(
            name, f"The file '{file.name}' beside it does not hold b-values only.", "Correct or remove this file."
        )
    if len(values) != volumes:
        if volumes == 1:  # a trace image beside the list of the series that it was made from
            return None
        raise unusable(
            name,
            f"It has {volumes} volumes, but '{file.name}' beside it lists {len(values)} b-values.",
            "Give the image and the list that belong together, or choose a volume with '#' and its number.",
        )
    return tuple(values)


def _stem(name: str) -> str:
    base = name[:-3] if name.lower().endswith(".gz") else name
    return base.rpartition(".")[0] or base


def _bids_file(path: Path, stem: str) -> Path | None:
    parts = set(stem.split("_"))
    if "dwi" not in parts or path.is_dir():
        return None
    fitting = [p for p in path.parent.glob("*_dwi.bval") if set(_stem(p.name).split("_")) <= parts]
    return max(fitting, key=lambda p: (p.name.count("_"), p.name), default=None)


def shells(b_values: Sequence[float]) -> list[list[int]]:
    """Indices of the volumes of each shell, by rising b-value; the first is that of b = 0 where there is one.

    Example:
        >>> shells([0, 1000, 995, 5])
        [[0, 3], [2, 1]]
    """
    order = sorted(range(len(b_values)), key=lambda i: (b_values[i], i))
    groups: list[list[int]] = []
    for i in order:
        apart = not groups or b_values[i] - b_values[groups[-1][-1]] > SHELL_GAP
        leaves_b0 = bool(groups) and b_values[groups[-1][0]] <= B0_LIMIT < b_values[i]
        if apart or leaves_b0:
            groups.append([])
        groups[-1].append(i)
    return groups


def choose(
    source: ImageSource, *, number: int | None, role: str, b_value: float | None, mean_of: Callable[[int], float]
) -> Choice:
    """Decide which volumes of `source` make up the image.

    A number (from ``name#N``) decides alone. Else, with b-values known, the role "b0" is the mean of all volumes up to
    b = 50, and the roles "dwi" and "" are the geometric mean of one shell: the one at `b_value`, else the one closest
    to b = 1000 within 300, else the highest up to 1500, else the lowest.

    Args:
        source: The opened image.
        number: The volume that was asked for.
        role: What the image is used for.
        b_value: The shell that was asked for, s/mm²; not used for the role "b0".
        mean_of: Mean intensity of a volume, for the choices that are offered.

    Raises:
        InputError: No such volume or shell, or nothing tells which volume is meant.
    """
    if number is not None:
        return _numbered(source, number)
    if source.volumes == 1:
        return _single(source, b_value if role in {"", "dwi"} else None)
    if source.b_values is None or role not in {"", "dwi", "b0"}:
        raise _undecided(source, mean_of)
    if role == "b0":
        indices = [i for i, b in enumerate(source.b_values) if b <= B0_LIMIT]
        if not indices:
            raise _no_shell(source, "without diffusion weighting (b = 0)")
        return _combined(source, indices, geometric=False)
    return _combined(source, _shell(source, b_value), geometric=True)


def _numbered(source: ImageSource, number: int) -> Choice:
    if number >= source.volumes:
        raise unusable(
            source.name,
            f"Volume #{number} was asked for, but it has {source.volumes} volume(s), counted from #0.",
            f"Choose a number from 0 to {source.volumes - 1}.",
        )
    b_value = None if source.b_values is None else source.b_values[number]
    return Choice(
        (number,), b_value, note=f"Volume #{number} of {source.volumes} was used." if source.volumes > 1 else ""
    )


def _single(source: ImageSource, b_value: float | None) -> Choice:
    known = None if source.b_values is None else source.b_values[0]
    if known is not None and b_value is not None and abs(known - b_value) > SHELL_GAP:
        raise _no_shell(source, f"at b = {b_value:g} s/mm²")
    return Choice((0,), known)


def _shell(source: ImageSource, b_value: float | None) -> list[int]:
    b_values = source.b_values or ()
    weighted = {
        float(np.mean([b_values[i] for i in shell])): shell
        for shell in shells(b_values)
        if b_values[shell[0]] > B0_LIMIT
    }
    if b_value is not None and b_value <= B0_LIMIT:
        weighted = {0.0: [i for i, b in enumerate(b_values) if b <= B0_LIMIT]} if min(b_values) <= B0_LIMIT else {}
    if not weighted:
        raise _no_shell(source, "with diffusion weighting" if b_value is None else f"at b = {b_value:g} s/mm²")
    wanted = USUAL_B if b_value is None else b_value
    closest = min(weighted, key=lambda b: (abs(b - wanted), b))
    if b_value is not None and abs(closest - b_value) > SHELL_GAP:
        raise _no_shell(source, f"at b = {b_value:g} s/mm²")
    if b_value is None and abs(closest - USUAL_B) > USUAL_REACH:
        closest = max((b for b in weighted if b <= HIGH_B), default=min(weighted))
    return weighted[closest]


def _combined(source: ImageSource, indices: list[int], *, geometric: bool) -> Choice:
    b_value = float(np.mean([source.b_values[i] for i in indices])) if source.b_values else None
    indices = sorted(indices)
    how = "geometric mean" if geometric else "mean"
    made = f"the {how} of {len(indices)} volumes" if len(indices) > 1 else f"volume #{indices[0]}"
    note = (
        f"Of the {source.volumes} volumes {made} at b = {b_value:.0f} s/mm² was used; "
        f"the image has {_listed_shells(source)}."
    )
    return Choice(tuple(indices), b_value, geometric, note)


def _listed_shells(source: ImageSource) -> str:
    b_values = source.b_values or ()
    found = [f"{len(shell)} at b = {np.mean([b_values[i] for i in shell]):.0f}" for shell in shells(b_values)]
    return ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} shells more" if len(found) > _LISTED else "")


def _no_shell(source: ImageSource, what: str) -> Exception:
    return unusable(
        source.name,
        f"It has no volume {what}; it has {_listed_shells(source)}.",
        "Give the image that has it, or ask for one of these b-values.",
    )


def _undecided(source: ImageSource, mean_of: Callable[[int], float]) -> Exception:
    def describe(index: int) -> str:
        b = "" if source.b_values is None else f"b = {source.b_values[index]:g}, "
        return f"#{index} ({b}mean {mean_of(index):.4g})"

    listed = ", ".join(describe(i) for i in range(min(source.volumes, _LISTED)))
    more = f" and {source.volumes - _LISTED} more" if source.volumes > _LISTED else ""
    why = "one is needed here" if source.b_values else "nothing beside it or in it says their b-values"
    return unusable(
        source.name,
        f"It holds {source.volumes} volumes, and {why}: {listed}{more}.",
        f"Choose one by its number, for example '{source.name}#1'"
        + ("." if source.b_values else ", or put the list of b-values beside it as a .bval file."),
    )
