"""Rows of numbers in a CSV file that is continued after a resume, never repeated."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path


class Rows:
    """A CSV file with a column ``step``.

    Args:
        path: Created, or continued; None: nothing is written, for processes whose numbers another one writes.
        columns: Beside ``step``, in order.
        step: Rows of an earlier run beyond this step are taken away: the run comes there again.
    """

    def __init__(self, path: Path | None, columns: Sequence[str], step: int) -> None:
        self._path, self._columns = path, ("step", *columns)
        if path is None:
            return
        kept: list[dict[str, str]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                # A kill may have left half a row at the end.
                kept = [r for r in csv.DictReader(file) if _whole(r) and int(r["step"]) <= step]
        partial = path.with_name(f".partial-{path.name}")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(path)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row; every column must be given. Numbers keep enough digits to be read back exactly."""
        if self._path is None:
            return
        line = io.StringIO()
        csv.writer(line).writerow([step, *(repr(float(values[c])) for c in self._columns[1:])])
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(line.getvalue())


def _whole(row: Mapping[str | None, str | None]) -> bool:
    return None not in row and None not in row.values() and str(row["step"]).isdigit()
