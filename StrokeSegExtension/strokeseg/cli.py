"""The command line: ``strokeseg segment``, ``evaluate``, ``report``, ``models`` and ``demo``.

Exit codes: 0 done; 2 wrong command line; 3 bad input or output place; 4 model; 5 dependency or device; 6 memory; 130
cancelled; 1 an error of ours. Each command's work is in the rooms; here is only what the user types and reads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from strokeseg import __version__, console
from strokeseg.errors import Cancelled, InputError, MemoryLimitError, StrokeSegError
from strokeseg.events import Monitor

app = typer.Typer(
    name="strokeseg",
    help="Stroke lesion segmentation in brain MRI. Research use only, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(
    help="Models at hand: list, show.", no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(models_app, name="models")


class Format(StrEnum):
    """For whom the output is."""

    text = "text"
    json = "json"


class Empty(StrEnum):
    """What overlap is worth when both masks are empty."""

    nan = "nan"
    isles = "isles"


FormatOption = Annotated[
    Format, typer.Option("--format", help="Output for people (text) or machines (one JSON object).")
]


@contextmanager
def _in_words(output: Format) -> Iterator[None]:
    """Every error ends as three sentences and an exit code, never as a traceback."""
    try:
        yield
    except StrokeSegError as error:
        console.show_error(error, as_json=output is Format.json)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        cancelled = Cancelled()
        console.show_error(cancelled, as_json=output is Format.json)
        raise typer.Exit(cancelled.exit_code) from error
    except MemoryError as error:
        full = MemoryLimitError(
            "The memory is not enough.",
            "The system refused more memory for these volumes.",
            "Close other programs, or use volumes with fewer voxels.",
        )
        console.show_error(full, as_json=output is Format.json)
        raise typer.Exit(full.exit_code) from error


@contextmanager
def _cancellable(output: Format) -> Iterator[tuple[Monitor, console.Narrator]]:
    """A monitor whose run ends at the next step when the user presses Ctrl+C or the system asks to terminate."""
    stop = threading.Event()
    narrator = console.Narrator(quiet=output is Format.json)
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with narrator.showing():
            yield Monitor(narrator, stop.is_set), narrator
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@app.command()
def segment(
    dwi: Annotated[
        str | None, typer.Option(help="Diffusion-weighted image (file, or DICOM folder). Default: none.")
    ] = None,
    adc: Annotated[
        str | None, typer.Option(help="ADC map in 1e-3, 1e-6 or plain mm²/s (recognised). Default: none.")
    ] = None,
    t1: Annotated[str | None, typer.Option("--t1", help="T1-weighted image. Default: none.")] = None,
    flair: Annotated[str | None, typer.Option(help="FLAIR image. Default: none.")] = None,
    b0: Annotated[
        str | None, typer.Option("--b0", help="Image without diffusion weighting (b = 0). Default: none.")
    ] = None,
    brain_mask: Annotated[
        str | None, typer.Option(help="Brain mask, 0 outside. Default: searched in the scan.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a model, or auto: the best for the scans given.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0 (or another number) or mps.")] = "auto",
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the results: new, empty, or an earlier result. Default: none is written."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Probability from which a voxel is lesion, 0-1. Default: the model's."),
    ] = None,
    min_lesion_ml: Annotated[
        float | None, typer.Option(min=0.0, help="Smaller lesions are dropped, ml. Default: the model's.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="How the model is run: auto (the model's own) or whole.")] = "auto",
    b_value: Annotated[
        float | None, typer.Option(min=0.0, help="b-value of the DWI, s/mm². Default: what the file says.")
    ] = None,
    register: Annotated[
        bool,
        typer.Option("--register", help="Correct the place of the other scans rigidly where it helps. Default: off."),
    ] = False,
    reference: Annotated[
        str | None, typer.Option(help="Expert mask to compare with afterwards; the model never sees it. Default: none.")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also write one probability map for each class. Default: off.")
    ] = False,
    identify: Annotated[
        bool, typer.Option("--identify", help="Write the names of the input files into the result. Default: off.")
    ] = False,
    output: FormatOption = Format.text,
) -> None:
    """Find the lesions of one patient and write mask, probability, table, picture and report."""
    files = {"dwi": dwi, "adc": adc, "t1": t1, "flair": flair, "b0": b0, "brain_mask": brain_mask}
    given = {role: path for role, path in files.items() if path is not None}
    with _in_words(output):
        identity = {role: Path(path).name for role, path in given.items()} if identify else None
        _segment(
            given,
            output,
            out=out,
            reference=reference,
            per_class=per_class,
            identity=identity,
            model=model,
            device=device,
            threshold=threshold,
            min_lesion_ml=min_lesion_ml,
            strategy=strategy,
            b_value=b_value,
            register=register,
        )


def _segment(
    files: dict[str, Any],
    output: Format,
    *,
    out: str | None,
    reference: str | None,
    per_class: bool = False,
    identity: dict[str, str] | None = None,
    synthetic: bool = False,
    **options: Any,
) -> None:
    """Read, segment, compare, write, and say what came out."""
    with _cancellable(output) as (monitor, _):
        from strokeseg.case import Case  # noqa: PLC0415  numpy and scipy are loaded when there is work, not for --help
        from strokeseg.evaluation import evaluate, read_reference  # noqa: PLC0415
        from strokeseg.results import check_place  # noqa: PLC0415
        from strokeseg.segmentation import choose_model, segment  # noqa: PLC0415
        from strokeseg.volume import Volume  # noqa: PLC0415

        if out is not None:
            check_place(Path(out))
            _load_drawing_meanwhile()
        with monitor.stage("read", "reading the scans"):
            case = Case.from_files(**files, b_value=options.get("b_value"))
            expected = read_reference(reference) if reference is not None else None
        choose_model(case, options["model"])
        result = segment(case, monitor=monitor, synthetic=synthetic, **options)
        metrics = None
        if expected is not None:
            with monitor.stage("evaluate", "comparing with the reference"):
                metrics = evaluate(
                    Volume(result.mask, result.affine), expected, probability=result.probability, brain=result.brain
                )
        written = {}
        if out is not None:
            written = result.save(out, metrics=metrics, per_class=per_class, identity=identity)
    if output is Format.json:
        console.print_json(
            {
                "event": "result",
                "summary": result.summary,
                "lesions": [_row(x) for x in result.lesions],
                "metrics": None if metrics is None else metrics.to_dict(),
                "seconds": result.timing,
                "files": {name: str(path) for name, path in written.items()},
            }
        )
        return
    from strokeseg.tables import lesion_table, metrics_table  # noqa: PLC0415

    console.out.print(f"{result.card.title} ({result.card.name} {result.card.version})")
    console.out.print(lesion_table(result.lesions, result.volume_ml))
    if metrics is not None:
        console.out.print(metrics_table(metrics))
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in result.timing.items())
    console.out.print(f"Seconds: {seconds}")
    console.out.print("Research use only. Not a medical device.")
    if out is None:
        console.out.print("Nothing was written: give --out FOLDER to keep the result.")
    else:
        console.out.print(f"Results: {out}" + os.sep)


def _load_drawing_meanwhile() -> None:
    """Load matplotlib while the scans are read and the model runs: it takes a third of a second and is needed last."""

    def load() -> None:
        import strokeseg.report.canvas  # noqa: F401, PLC0415

    threading.Thread(target=load, daemon=True).start()


@app.command()
def evaluate(
    prediction: Annotated[str, typer.Option(help="Lesion mask to judge. Required.")],
    reference: Annotated[str, typer.Option(help="Expert mask to judge by. Required.")],
    out: Annotated[str | None, typer.Option(help="File for the figures (JSON). Default: none is written.")] = None,
    connectivity: Annotated[int, typer.Option(help="Neighbours that join voxels into a lesion: 26, 18 or 6.")] = 26,
    empty: Annotated[
        Empty, typer.Option(help="Overlap of two empty masks: not defined (nan) or 1 (isles).")
    ] = Empty.nan,
    output: FormatOption = Format.text,
) -> None:
    """Compare a lesion mask with a reference mask."""
    with _in_words(output):
        from strokeseg.evaluation import evaluate as compare  # noqa: PLC0415
        from strokeseg.tables import metrics_table  # noqa: PLC0415

        if connectivity not in (6, 18, 26):
            raise typer.BadParameter(f"{connectivity}: choose 6, 18 or 26", param_hint="--connectivity")
        if out is not None:
            _refuse_other_file(Path(out))
        metrics = compare(prediction, reference, connectivity=connectivity, empty=empty.value)
        if out is not None:
            _write_new(Path(out), json.dumps(metrics.to_dict(), indent=2, allow_nan=False) + "\n")
        if output is Format.json:
            console.print_json({"event": "result", "metrics": metrics.to_dict()})
        else:
            console.out.print(metrics_table(metrics))


@app.command()
def report(
    folder: Annotated[str, typer.Argument(help="A result folder of 'strokeseg segment'.")],
    output: FormatOption = Format.text,
) -> None:
    """Write report.html of a result folder again, from the files in it."""
    with _in_words(output):
        from strokeseg.stored import render_stored  # noqa: PLC0415

        place = Path(folder)
        page = render_stored(place)
        _write_new(place / "report.html", page)
        if output is Format.json:
            console.print_json({"event": "result", "files": {"report.html": str(place / "report.html")}})
        else:
            console.out.print(f"Written: {place / 'report.html'}")


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the models at hand ('list', the default) or show one ('show NAME')."""
    if context.invoked_subcommand is None:
        models_list(Format.text)


@models_app.command("list")
def models_list(output: FormatOption = Format.text) -> None:
    """List the models at hand with what they need."""
    with _in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415
        from strokeseg.tables import model_table  # noqa: PLC0415

        cards = ModelStore().cards()
        if output is Format.json:
            console.print_json({"event": "result", "models": [_card(c) for c in cards]})
        else:
            console.out.print(model_table(cards))


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of the model.")], output: FormatOption = Format.text
) -> None:
    """Show everything a model's card says."""
    with _in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415
        from strokeseg.tables import card_text  # noqa: PLC0415

        card = ModelStore().card(name)
        if output is Format.json:
            console.print_json({"event": "result", "model": _card(card)})
        else:
            console.out.print(card_text(card), markup=False)


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Folder for the results.")] = "demo-result",
    output: FormatOption = Format.text,
) -> None:
    """Segment the synthetic patient that comes with StrokeSeg; needs no download."""
    with _in_words(output):
        from strokeseg.resources import resource_path  # noqa: PLC0415

        sample = resource_path("Samples", "synthetic-patient")
        if output is Format.text:
            console.out.print("This patient is synthetic: simulated from an anatomical template, no patient's image.")
        files = {role: str(sample / f"{role}.nii.gz") for role in ("dwi", "adc", "b0", "t1")}
        _segment(
            files,
            output,
            out=folder,
            reference=str(sample / "lesions.nii.gz"),
            synthetic=True,
            model="auto",
            device="auto",
        )
        if output is Format.text:
            console.out.print(f"Open {Path(folder) / 'report.html'} in a browser to look at it.")


@app.command()
def version() -> None:
    """Print the version."""
    console.out.print(__version__)


def _row(lesion: Any) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    return asdict(lesion)


def _card(card: Any) -> dict[str, Any]:
    return json.loads((card.folder / "card.json").read_text(encoding="utf-8"))


def _refuse_other_file(path: Path) -> None:
    """A file that is there already is only replaced when it holds the figures of an earlier evaluation."""
    if not os.path.lexists(path):
        return
    try:
        figures = json.loads(path.read_bytes())
    except (OSError, ValueError):
        figures = None
    if not isinstance(figures, dict) or "dice" not in figures:
        raise InputError(
            f"'{path.name}' is there already.",
            "It does not hold the figures of an earlier evaluation, so it is not replaced.",
            "Give --out another name.",
        )


def _write_new(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    part = path.with_name(f".part-{path.name}")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"'{path.name}' could not be written.",
            f"The system said: {os.strerror(error.errno or 0)}.",
            "Give the name of a file in a folder in which you may write.",
        ) from error


def main() -> None:
    """Entry point of the command ``strokeseg``."""
    # A reader that closes the pipe early (head, less) is no error of ours.
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(app())
