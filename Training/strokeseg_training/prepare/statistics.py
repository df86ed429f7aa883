"""What a prepared set holds: patients, lesions, voxels and slices of each class, in all, by side and by centre."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from strokeseg_training.datasets.patients import Patient
from strokeseg_training.datasets.splits import SIDES

Counted = tuple[Patient, str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """A class in a group of patients.

    Args:
        group: ``all``, ``side`` or ``centre``.
        name: Of the side or the centre.
        kind: Name of the class.
        patients: In the group.
        without_lesion: Those whose masks are all empty.
        with_class: Those with a voxel of the class.
        lesions: 26-connected components of the class, on the scans' own grids.
        ml: Volume of the class, on the scans' own grids.
        voxels: Of the class, on the model's grid.
        slices: Axial slices of the model's grid with a voxel of the class.
    """

    group: str
    name: str
    kind: str
    patients: int
    without_lesion: int
    with_class: int
    lesions: int
    ml: float
    voxels: int
    slices: int

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def count(patients: Sequence[Counted], classes: Sequence[str]) -> list[Row]:
    """The rows of the table.

    Args:
        patients: With their side and the content of ``patient.json``.
        classes: Names in order.
    """
    groups: list[tuple[str, str, list[Counted]]] = [("all", "", list(patients))]
    groups += [("side", side, [p for p in patients if p[1] == side]) for side in SIDES]
    centres = sorted({p.centre for p, _, _ in patients} - {""})
    groups += [("centre", centre, [p for p in patients if p[0].centre == centre]) for centre in centres]
    return [_row(group, name, kind, own) for group, name, own in groups for kind in classes]


def _row(group: str, name: str, kind: str, own: Sequence[Counted]) -> Row:
    entries = [entry["classes"] for _, _, entry in own]
    return Row(
        group,
        name,
        kind,
        patients=len(own),
        without_lesion=sum(all(c["lesions"] == 0 for c in classes.values()) for classes in entries),
        with_class=sum(classes[kind]["lesions"] > 0 for classes in entries),
        lesions=sum(classes[kind]["lesions"] for classes in entries),
        ml=round(sum(classes[kind]["ml"] for classes in entries), 4),
        voxels=sum(classes[kind]["voxels"] for classes in entries),
        slices=sum(classes[kind]["slices"]["axial"] for classes in entries),
    )


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as comma-separated text with a head."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0].as_data()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.as_data() for row in rows)
    return text.getvalue()


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    shown = Table(title="Prepared patients", title_justify="left")
    heads = ("group", "class", "patients", "no lesion", "with class", "lesions", "ml", "voxels", "axial slices")
    for head in heads:
        shown.add_column(head)
    for row in rows:
        numbers = (row.patients, row.without_lesion, row.with_class, row.lesions, f"{row.ml:.1f}", row.voxels)
        shown.add_row(f"{row.group} {row.name}".strip(), row.kind, *map(str, numbers), str(row.slices))
    return shown
