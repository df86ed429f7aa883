"""``strokeseg-train prepare``: what the user types, and what is said at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg_training.command import DataRecipeOption, SettingsOption, WithoutOption, libraries, words

if TYPE_CHECKING:
    from strokeseg_training.prepare.running import PreparedData


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command()(prepare)


def prepare(
    recipe: DataRecipeOption,
    data: Annotated[str, typer.Option(help="Folder of the data set. Required.")],
    out: Annotated[str, typer.Option(help="Folder of the prepared set; finished patients there are kept. Required.")],
    leave_out: WithoutOption = None,
    settings: SettingsOption = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Draw every new patient before and after the alignment: OUT/pictures.")
    ] = False,
    output: FormatOption = Format.text,
) -> None:
    """Make arrays for training from a data set of real patients, with the engine's own preparation."""
    named = {"--recipe": recipe, "--data": data, "--out": out, "--set": settings, "--without": leave_out}
    command = words("prepare", named)
    with in_words(output), cancellable(output) as monitor:
        load, run = _library()
        done = run(
            load(recipe, settings or []),
            Path(data),
            Path(out),
            leave_out=leave_out or [],
            command=command,
            pictures=pictures,
            monitor=monitor,
        )
    if output is Format.json:
        console.print_json(_as_json(done))
    else:
        _tell(done, command)


def _library() -> tuple[Any, Any]:
    with libraries("Data cannot be prepared here."):
        from strokeseg_training.prepare.recipe import load_data_recipe  # noqa: PLC0415  seconds that --help must not take
        from strokeseg_training.prepare.running import prepare_data_set  # noqa: PLC0415
    return load_data_recipe, prepare_data_set


def _as_json(done: PreparedData) -> dict[str, Any]:
    return {
        "event": "result",
        "folder": str(done.folder),
        "patients": done.patients,
        "written": done.written,
        "split_sha256": done.split.sha256,
        "sides": {side: len(ids) for side, ids in done.split.sides.items()},
        "statistics": [row.as_data() for row in done.statistics],
        "notices": [{"patient": n.patient, "text": n.text} for n in done.notices],
    }


def _tell(done: PreparedData, command: list[str]) -> None:
    from strokeseg_training.datasets.patients import without_command  # noqa: PLC0415  see above
    from strokeseg_training.prepare.statistics import table  # noqa: PLC0415

    console.out.print(table(done.statistics))
    kept = done.patients - done.written
    console.out.print(f"{done.written} patients prepared, {kept} kept; split {done.split.sha256[:12]}.", markup=False)
    named = sorted({n.patient for n in done.notices})
    if named:
        console.out.print(f"Of {len(named)} of them something was said; without them:", markup=False)
        console.out.print(f"  {without_command(named, command)}", markup=False)
    console.out.print(f"Prepared set: {done.folder}", markup=False)
