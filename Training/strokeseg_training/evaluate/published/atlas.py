"""The ATLAS trio's files: the table of models and losses, and the curves; the panels lie with the patients.

Dice is that of a patient's whole volume, for each class by itself: over patients who have the class, and beside it how
many have not, and what was drawn in them. Background is no class, and an empty slice counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strokeseg_training.evaluate import charts
from strokeseg_training.evaluate.published import Work
from strokeseg_training.evaluate.tables import model_rows, models_csv
from strokeseg_training.prepare.storage import write_text


def write(work: Work) -> list[Path]:
    """All files.

    Raises:
        OSError: One cannot be written.
    """
    rows = [row for evaluation in work.evaluations for row in model_rows(evaluation)]
    table, page = work.folder / "results_table.csv", work.folder / "results_table.md"
    write_text(table, models_csv(work.evaluations))
    write_text(page, "\n".join(_by_loss(rows)) + "\n")
    written = [table, page]
    if work.run is not None:
        for column, label in (("dice", "Dice"), ("loss", "loss")):
            lines, title = work.run.curves(column), f"{work.results.card.name}, loss: {work.loss}"
            if not lines:
                continue
            figure = charts.curves(lines, label, title=title)
            written.append(charts.save(figure, work.folder / f"{column}_curve.png", work.results.note))
    return written


def _by_loss(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table a class: models down, losses across."""
    models, losses = (list(dict.fromkeys(str(r[k]) for r in rows)) for k in ("model", "loss"))
    for name in dict.fromkeys(r["class"] for r in rows):
        yield f"Dice of '{name}', mean over patients who have it (95 % interval)"
        yield ""
        yield "| model | " + " | ".join(losses) + " |"
        yield "|---" * (len(losses) + 1) + "|"
        for model in models:
            own = [r for r in rows if (r["model"], r["class"]) == (model, name)]
            cells = [_cell([r for r in own if r["loss"] == loss]) for loss in losses]
            yield f"| {model} | " + " | ".join(cells) + " |"
        yield ""


def _cell(rows: list[dict[str, Any]]) -> str:
    return "; ".join(
        "no patient has it"
        if r["dice"] is None
        else f"{r['dice']:.4f}"
        + ("" if r["dice_low"] is None else f" ({r['dice_low']:.4f} to {r['dice_high']:.4f})")
        + f", n = {r['patients_with_class']}"
        for r in rows
    )
