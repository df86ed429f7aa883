"""``strokeseg-train evaluate``: what the user types, and what is said at the end."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import DeviceOption, Format, FormatOption, cancellable, in_words
from strokeseg_training.command import DataRecipeOption, SettingsOption, WithoutOption, libraries, words

if TYPE_CHECKING:
    from strokeseg_training.evaluate.running import Evaluated


class SideName(StrEnum):
    """Of a split."""

    test = "test"
    val = "val"
    train = "train"


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command()(evaluate)


def evaluate(
    recipe: DataRecipeOption,
    model: Annotated[str, typer.Option(help="Name of a model, or a model folder. Required.")],
    data: Annotated[str, typer.Option(help="A prepared set, or the folder of the data set. Required.")],
    out: Annotated[str, typer.Option(help="Folder for the results; finished patients there are kept. Required.")],
    side: Annotated[SideName, typer.Option(help="Side of the split that is judged.")] = SideName.test,
    originals: Annotated[
        str | None, typer.Option(help="Folder of the data set, where --data is a prepared set. Default: --data.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="A split.json. Default: the prepared set's, or made by the recipe's rule."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Folder of the model's training, for its curves. Default: none.")
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(help="Published system whose result files are written, too; repeatable. Default: the network's."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another evaluation of the same patients: models.csv has both; repeatable. Default: none."),
    ] = None,
    leave_out: WithoutOption = None,
    even_if_seen: Annotated[
        bool,
        typer.Option("--even-if-seen", help="Judge although the model was, or may have been, trained on the patients."),
    ] = False,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    output: FormatOption = Format.text,
) -> None:
    """Judge a model by the patients of one side of a split, on the grids of their own scans.

    Every result names whom --without leaves out.
    """
    named: dict[str, str | list[str] | None] = {
        "--recipe": recipe, "--model": model, "--data": data, "--originals": originals, "--split": split,
        "--side": side.value, "--out": out, "--run": run, "--system": system, "--beside": beside, "--set": settings,
        "--without": leave_out,
    }  # fmt: skip
    command = [*words("evaluate", named), *(["--even-if-seen"] if even_if_seen else [])]
    with in_words(output):
        with cancellable(output) as monitor:
            load, find, work = _library()
            done = work(
                load(recipe, settings or []),
                model,
                find(
                    data=Path(data).expanduser(),
                    originals=None if originals is None else Path(originals).expanduser(),
                    split=None if split is None else Path(split).expanduser(),
                    side=side.value,
                    leave_out=tuple(leave_out or ()),
                    command=command,
                ),
                out,
                device=device,
                run=run,
                systems=system or [],
                beside=beside or [],
                even_if_seen=even_if_seen,
                monitor=monitor,
            )
        if output is Format.json:
            console.print_json(_as_json(done))
        else:
            _tell(done)
        _refuse_failed(done, command)


def _library() -> tuple[Any, Any, Any]:
    with libraries("Nothing can be evaluated here."):
        from strokeseg_training.evaluate.running import evaluate_model  # noqa: PLC0415  seconds; --help must not
        from strokeseg_training.evaluate.subjects import Where  # noqa: PLC0415
        from strokeseg_training.prepare.recipe import load_data_recipe  # noqa: PLC0415
    return load_data_recipe, Where, evaluate_model


def _refuse_failed(done: Evaluated, command: list[str]) -> None:
    """Results without some patients end as an error does: nobody shall take them for all."""
    if done.results.failed:
        from strokeseg_training.datasets import UnusablePatients  # noqa: PLC0415

        raise UnusablePatients(done.results.failed, command)


def _as_json(done: Evaluated) -> dict[str, Any]:
    results = done.results
    return {
        "event": "result",
        "folder": str(done.folder),
        "judged": done.judged,
        "about": results.about,
        "tables": {name: summary.to_dict() for name, summary in results.tables.items()},
        "files": [p.relative_to(done.folder).as_posix() for p in done.files],
    }


def _tell(done: Evaluated) -> None:
    from rich.table import Table  # noqa: PLC0415

    results = done.results
    shown = Table(title=f"{results.card.name}, side '{results.facts['side']}'", title_justify="left")
    for head in ("class", "patients", "figure", "mean", "interval", "no value"):
        shown.add_column(head)
    for name, summary in results.tables.items():
        groups = {
            "with lesion": (summary.lesion_positive, ("dice", "lesion_f1", "hd95_mm", "avd_ml")),
            "without": (summary.reference_empty, ("false_positive_ml",)),
        }
        for group, (table, figures) in groups.items():
            for figure in figures if table.cases else ():
                s = table.statistics[figure]
                bounds = "" if s.mean_interval is None else "{:.3f} to {:.3f}".format(*s.mean_interval)
                mean = "not defined" if math.isnan(s.mean) else f"{s.mean:.3f}"
                shown.add_row(name, f"{s.patients} {group}", figure, mean, bounds, str(s.missing))
    console.out.print(shown)
    console.out.print(results.seen.sentence, markup=False)
    console.out.print(f"{done.judged} patients judged, {len(results.records) - done.judged} kept.", markup=False)
    console.out.print(f"Page: {console.printable(str(done.folder / 'report.html'))}", markup=False)
