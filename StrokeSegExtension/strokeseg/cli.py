"""The command line: ``strokeseg segment``, ``evaluate``, ``report``, ``models`` and ``demo``.

Exit codes: 0 done; 2 wrong command line; 3 bad input or output place; 4 model; 5 dependency or device; 6 memory; 130
cancelled; 1 an error of ours. Each command's work is in the rooms; here is only what the user types and reads.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from strokeseg import __version__, cli_models, console
from strokeseg.command import DeviceOption, Format, FormatOption, cancellable, in_words
from strokeseg.errors import InputError

app = typer.Typer(
    name="strokeseg",
    help="Stroke lesion segmentation in brain MRI. Research use only, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_models.app, name="models")


class Precision(StrEnum):
    """What a network computes in."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class RuntimeName(StrEnum):
    """What runs a network."""

    auto = "auto"
    openvino = "openvino"
    torch = "torch"


class Empty(StrEnum):
    """What overlap is worth when both masks are empty."""

    nan = "nan"
    isles = "isles"


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
    device: DeviceOption = "auto",
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the results: new, empty, or an earlier result. Default: none is written."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Probability from which a voxel is lesion, 0-1; a model's peak moves along. Default: the model's.",
        ),
    ] = None,
    min_lesion_ml: Annotated[
        float | None, typer.Option(min=0.0, help="Smaller lesions are dropped, ml. Default: the model's.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="How the model is run: whole (one pass), windows, slices, or auto: the model's own, by windows where "
            "the memory is too small."
        ),
    ] = "auto",
    window: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,Z",
            help="Size of a window, voxels of the model's grid along right, anterior, superior. Default: the model's.",
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.9, help="Share of a window that neighbours overlap, 0-0.9. Default: the model's."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Run the mirrored scan, too, and take the mean; twice the time. Default: off.")
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Write how undecided the mean of both passes is (entropy, 0-1; not the model's own uncertainty); "
            "includes --tta. Default: off.",
        ),
    ] = False,
    precision: Annotated[
        Precision, typer.Option(help="Numbers that the network computes in; fp32 where the device has no other.")
    ] = Precision.fp32,
    runtime: Annotated[
        RuntimeName, typer.Option(help="Library that runs the network; auto: OpenVINO on the CPU, PyTorch on a GPU.")
    ] = RuntimeName.auto,
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
    options = {
        "model": model,
        "device": device,
        "threshold": threshold,
        "min_lesion_ml": min_lesion_ml,
        "strategy": strategy,
        "window": None if window is None else _window(window),
        "overlap": overlap,
        "tta": tta,
        "uncertainty": uncertainty,
        "precision": precision.value,
        "runtime": runtime.value,
        "b_value": b_value,
        "register": register,
        "reference": reference,
        "per_class": per_class,
        "identify": identify,
    }
    with in_words(output):
        _segment({role: path for role, path in files.items() if path is not None}, out, output, options)


def _window(text: str) -> list[int]:
    """The numbers of ``--window``."""
    parts = text.split(",")
    if len(parts) != 3 or not all(p.strip().isdecimal() and 1 <= int(p) <= 2048 for p in parts):
        raise typer.BadParameter(f"'{text}': give three numbers of voxels, e.g. 96,96,96", param_hint="--window")
    return [int(p) for p in parts]


def _segment(files: dict[str, str], out: str | None, output: Format, options: dict[str, Any]) -> None:
    """Carry out one job and say what came out."""
    with cancellable(output) as monitor:
        # Loaded here: numpy is needed when there is work, and Ctrl+C is heard while it loads.
        from strokeseg.job import SegmentJob, SegmentOptions, run_segment  # noqa: PLC0415

        job = SegmentJob(files, None if out is None else Path(out), SegmentOptions.checked(options))
        done = run_segment(job, monitor)
    result = done.result
    if output is Format.json:
        console.print_json(
            {
                "event": "result",
                "summary": result.summary,
                "lesions": [asdict(x) for x in result.lesions],
                "metrics": None if done.metrics is None else done.metrics.to_dict(),
                "seconds": result.timing,
                "files": {name: str(path) for name, path in done.files.items()},
            }
        )
        return
    from strokeseg.tables import lesion_table, metrics_table  # noqa: PLC0415

    console.out.print(f"{result.card.title} ({result.card.name} {result.card.version})")
    console.out.print(lesion_table(result.lesions, result.volume_ml))
    if done.metrics is not None:
        console.out.print(metrics_table(done.metrics))
    seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in result.timing.items())
    console.out.print(f"Seconds: {seconds}")
    console.out.print("Research use only. Not a medical device.")
    if out is None:
        console.out.print("Nothing was written: give --out FOLDER to keep the result.")
    else:
        console.out.print(f"Results: {console.printable(out)}" + os.sep)


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
    with in_words(output):
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
    with in_words(output):
        from strokeseg.stored import render_stored  # noqa: PLC0415

        place = Path(folder)
        page = render_stored(place)
        _write_new(place / "report.html", page)
        if output is Format.json:
            console.print_json({"event": "result", "files": {"report.html": str(place / "report.html")}})
        else:
            console.out.print(f"Written: {console.printable(str(place / 'report.html'))}")


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Folder for the results.")] = "demo-result",
    output: FormatOption = Format.text,
) -> None:
    """Segment the synthetic patient that comes with StrokeSeg; needs no download."""
    with in_words(output):
        from strokeseg.resources import resource_path  # noqa: PLC0415

        sample = resource_path("Samples", "synthetic-patient")
        if output is Format.text:
            console.out.print("This patient is synthetic: simulated from an anatomical template, no patient's image.")
        files = {role: str(sample / f"{role}.nii.gz") for role in ("dwi", "adc", "b0", "t1")}
        made = json.loads((sample / "sample.json").read_text(encoding="utf-8"))
        options = {
            "reference": str(sample / "lesions.nii.gz"),
            "b_value": made["b_value_s_per_mm2"],
            "synthetic": True,
        }
        _segment(files, folder, output, options)
        if output is Format.text:
            console.out.print(
                f"Open {console.printable(str(Path(folder) / 'report.html'))} in a browser to look at it."
            )


@app.command()
def worker() -> None:
    """Serve requests: one JSON object a line on standard input, one event a line on standard output (for programs)."""
    from strokeseg.worker import main as work  # noqa: PLC0415

    work()


@app.command()
def version() -> None:
    """Print the version."""
    console.out.print(__version__)


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
        with suppress(OSError):  # the folder itself may be what is wrong
            part.unlink()
        raise InputError(
            f"'{path.name}' could not be written.",
            f"The system said: {os.strerror(error.errno or 0)}.",
            "Give the name of a file in a folder in which you may write.",
        ) from error


def main() -> None:
    """Entry point of the command ``strokeseg``."""
    # A terminal that cannot show a letter shows its number instead of ending the program.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app())
    finally:
        # All that is left goes with the process; to look through it for circles would take a tenth of a second.
        gc.freeze()
