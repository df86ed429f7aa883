"""The commands that use the generator: ``synthesize`` and ``bank``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg_training.command import libraries

if TYPE_CHECKING:
    from strokeseg.events import Monitor
    from strokeseg_training.generation import Source
    from strokeseg_training.sample import Sample
    from strokeseg_training.synthesize import WrittenCase


class Task(StrEnum):
    """What kind of patient."""

    acute = "dwi-adc"
    chronic = "t1"


class Layout(StrEnum):
    """How the files of a data set are named."""

    isles22 = "isles22"
    isles22_kaggle = "isles22-kaggle"
    atlas = "atlas"
    atlas_r1 = "atlas-r1"
    bids = "bids"


TaskOption = Annotated[Task | None, typer.Option(help="Kind of patient. Default: the recipe's, or dwi-adc.")]
CountOption = Annotated[int, typer.Option(min=1, help="How many patients.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the first patient; the next ones count up.")]
RecipeOption = Annotated[
    str | None, typer.Option(help="Recipe (name or .yaml file) whose generator is used. Default: none.")
]
MasksOption = Annotated[
    str | None, typer.Option(help="Folder of lesion masks whose shapes are used. Default: the recipe's, or none.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ROOM.FIELD=VALUE", help="One range of the generator, as JSON; may be repeated."),
]


_MISSING = "Synthetic patients cannot be made here."


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(synthesize)
    app.command()(bank)


def synthesize(
    out: Annotated[str, typer.Option(help="Folder of the data set; what is complete there is kept. Required.")],
    task: TaskOption = None,
    layout: Annotated[
        Layout | None, typer.Option(help="Names of files and folders. Default: isles22 for dwi-adc, atlas for t1.")
    ] = None,
    count: CountOption = 1,
    seed: SeedOption = 0,
    recipe: RecipeOption = None,
    lesion_masks: MasksOption = None,
    changes: SetOption = None,
    whole_head: Annotated[
        bool, typer.Option("--whole-head", help="Images show the whole head. Default: 0 outside the brain mask.")
    ] = False,
    scanner_grid: Annotated[
        bool, typer.Option("--scanner-grid", help="Voxels of the simulated scanner. Default: those of the model.")
    ] = False,
    centres: Annotated[int, typer.Option(min=1, help="Centres over which the patients are spread.")] = 1,
    small: Annotated[
        bool, typer.Option("--small", help="Ellipsoids of 26x30x22 voxels instead of patients: for trying things out.")
    ] = False,
    sample: Annotated[
        bool, typer.Option("--sample", help="Write the patient of Resources/Samples to --out; of no use with others.")
    ] = False,
    output: FormatOption = Format.text,
) -> None:
    """Write synthetic patients as a data set with a contact sheet."""
    with in_words(output), cancellable(output) as monitor, libraries(_MISSING):
        if sample:
            _write_sample(Path(out), output, monitor)
            return
        from strokeseg_training.generation import open_source  # noqa: PLC0415  PyTorch takes seconds, --help must not

        # Scanners show whole heads; only what was made public is stripped.
        heads = ["corruption.stripped_share=0.0"] if whole_head else []
        source = open_source(task.value if task else None, recipe, lesion_masks, [*heads, *(changes or ())])
        kind = layout.value if layout else {"dwi-adc": "isles22", "t1": "atlas"}[source.task]
        seeds = range(seed, seed + count)
        if small:
            if whole_head or scanner_grid:
                raise typer.BadParameter("--small has neither heads nor scanners", param_hint="--small")
            cases, sheets = _write_small(source.task, Path(out), kind, seeds, centres, monitor)
        else:
            cases, sheets = _write_cases(
                source,
                Path(out),
                kind,
                seeds,
                whole_head=whole_head,
                on_scanner_grid=scanner_grid,
                centres=centres,
                monitor=monitor,
            )
    if output is Format.json:
        console.print_json(_cases_as_json(cases, sheets, out))
    else:
        _tell_cases(cases, sheets, out)


def bank(
    out: Annotated[str, typer.Option(help="Folder of the bank; finished shards there are kept. Required.")],
    task: TaskOption = None,
    count: CountOption = 1,
    seed: SeedOption = 0,
    recipe: RecipeOption = None,
    lesion_masks: MasksOption = None,
    changes: SetOption = None,
    output: FormatOption = Format.text,
) -> None:
    """Write prepared samples for training, so that they need not be generated again."""
    with in_words(output), cancellable(output) as monitor, libraries(_MISSING):
        from strokeseg_training.bank_writing import missing_seeds, write_bank  # noqa: PLC0415  see above
        from strokeseg_training.generation import open_source  # noqa: PLC0415

        source = open_source(task.value if task else None, recipe, lesion_masks, changes or ())
        missing = missing_seeds(range(seed, seed + count), out)
        with monitor.stage("bank", f"{len(missing)} of {count} patients are missing"):
            if missing:
                write_bank(_samples(source, missing), out, about=source.about, monitor=monitor)
    if output is Format.json:
        console.print_json({"event": "result", "folder": out, "patients": count, "written": len(missing)})
    else:
        console.out.print(f"{len(missing)} patients written, {count - len(missing)} kept.", markup=False)
        console.out.print(f"Bank: {out}" + os.sep, markup=False)


def _generator(source: Source) -> Any:
    from strokeseg_training.generator.generator import Generator  # noqa: PLC0415  see above

    return Generator(library=source.library)


def _write_cases(
    source: Source,
    folder: Path,
    layout: str,
    seeds: range,
    *,
    whole_head: bool,
    on_scanner_grid: bool,
    centres: int,
    monitor: Monitor,
) -> tuple[list[WrittenCase], list[Path]]:
    from strokeseg_training.contact_sheet_files import write_contact_sheets  # noqa: PLC0415  see above
    from strokeseg_training.generator.scene import GENERATOR_VERSION  # noqa: PLC0415
    from strokeseg_training.scanner_grid import scanner_grid  # noqa: PLC0415
    from strokeseg_training.synthesize import DataSet, write_data_set  # noqa: PLC0415

    data_set = DataSet(folder, layout, source.task, GENERATOR_VERSION, whole_head, source.statement, centres)
    cases = write_data_set(
        source.scenes(seeds),
        _generator(source),
        data_set,
        scanner_grid=scanner_grid if on_scanner_grid else None,
        monitor=monitor,
    )
    title = f"Synthetic cases: {source.task}, generator version {GENERATOR_VERSION}"
    return cases, write_contact_sheets(cases, folder, title, monitor)


def _write_small(
    task: str, folder: Path, layout: str, seeds: range, centres: int, monitor: Monitor
) -> tuple[list[WrittenCase], list[Path]]:
    from strokeseg_training.contact_sheet_files import write_contact_sheets  # noqa: PLC0415  see above
    from strokeseg_training.datasets import phantom  # noqa: PLC0415
    from strokeseg_training.synthesize import DataSet, write_data_set  # noqa: PLC0415

    data_set = DataSet(folder, layout, task, phantom.VERSION, statement=phantom.STATEMENT, centres=centres)
    scenes = [phantom.PhantomScene(seed) for seed in seeds]
    cases = write_data_set(scenes, phantom.Phantoms(task), data_set, monitor=monitor)
    return cases, write_contact_sheets(cases, folder, f"Phantoms: {task}", monitor)


def _write_sample(folder: Path, output: Format, monitor: Monitor) -> None:
    from strokeseg_training.sample_case import make_sample_case, write_sample_case  # noqa: PLC0415  see above
    from strokeseg_training.sample_design import load_design  # noqa: PLC0415

    case = make_sample_case(load_design(), monitor)
    write_sample_case(case, folder)
    if output is Format.json:
        console.print_json({"event": "result", "folder": str(folder), "lesions": case.description["lesions"]})
        return
    for lesion in case.description["lesions"]:
        console.out.print(f"{lesion['volume_ml']:8.2f} ml  {lesion['name']}", markup=False)
    console.out.print(f"Sample patient: {folder}" + os.sep, markup=False)


def _samples(source: Source, seeds: list[int]) -> Iterator[Sample]:
    """One sample a seed, each made alone."""
    generator = _generator(source)
    for seed in seeds:
        yield generator.make(source.scenes([seed]))


def _cases_as_json(cases: list[WrittenCase], sheets: list[Path], out: str) -> dict[str, Any]:
    return {
        "event": "result",
        "folder": out,
        "cases": [{"name": c.name, "lesion_volume_ml": c.lesion_volume_ml, "kept": c.kept} for c in cases],
        "contact_sheets": [str(sheet) for sheet in sheets],
    }


def _tell_cases(cases: list[WrittenCase], sheets: list[Path], out: str) -> None:
    kept = sum(case.kept for case in cases)
    empty = sum(case.lesion_volume_ml == 0 for case in cases)
    console.out.print(f"{len(cases) - kept} cases written, {kept} kept; {empty} with an empty mask.", markup=False)
    for sheet in sheets:
        console.out.print(f"Contact sheet: {sheet}", markup=False)
    console.out.print(f"Data set: {out}" + os.sep, markup=False)
