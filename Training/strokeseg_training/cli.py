"""The command line of training, ``strokeseg-train``. Exit codes are the engine's.

0 done; 2 wrong command line; 3 bad input or output place; 4 model; 5 dependency; 6 memory; 130 cancelled.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg.errors import DependencyError, InputError
from strokeseg_training import cli_evaluate, cli_exam, cli_generate, cli_import, cli_prepare
from strokeseg_training.cli_fit import fit

if TYPE_CHECKING:
    from strokeseg_training.export import Exported

app = typer.Typer(
    name="strokeseg-train",
    help="Training of StrokeSeg's models, without Slicer. Research use only, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def commands() -> None:
    """Training of StrokeSeg's models, without Slicer. Research use only, not a medical device."""


cli_generate.register(app)
cli_prepare.register(app)
app.command()(fit)
cli_exam.register(app)
cli_evaluate.register(app)
cli_import.register(app)


@app.command()
def export(
    card: Annotated[str, typer.Option(help="The model's card (JSON); files and runtime are filled in. Required.")],
    checkpoint: Annotated[
        str, typer.Option(help="Weights (.pt, .ckpt, .safetensors), or an ONNX file for a bare graph. Required.")
    ],
    out: Annotated[str, typer.Option(help="The model folder to make: new or empty. Required.")],
    network: Annotated[
        str | None, typer.Option(help="Name of the network, or graph. Default: the one in the card.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An argument of the network, as JSON; may be repeated. Default: the card's.",
        ),
    ] = None,
    output: FormatOption = Format.text,
) -> None:
    """Make a model folder from a checkpoint, and see that both runtimes give what the network gave."""
    given = _arguments(arguments or [])
    with in_words(output), cancellable(output) as monitor:
        fields = _read_card(Path(card))
        if network is not None:
            fields = {**fields, "network": network, "network_arguments": {}}
        if given:
            fields["network_arguments"] = {**fields.get("network_arguments", {}), **given}
        done = _export_model()(Path(checkpoint), fields, Path(out), monitor=monitor)
    if output is Format.json:
        console.print_json(_as_json(done, out))
    else:
        _tell(done, out)


def _export_model() -> Any:
    try:
        from strokeseg_training.export import export_model  # noqa: PLC0415  PyTorch takes seconds, --help must not
    except ImportError as error:
        raise DependencyError(
            "Models cannot be exported here.",
            f"A library is missing: {error}.",
            "Install it with: pip install 'strokeseg[torch]'.",
        ) from error
    return export_model


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """``key=value`` with values as JSON; what is no JSON is a text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise typer.BadParameter(f"'{pair}': expected KEY=VALUE, e.g. init_filters=8", param_hint="--set")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def _read_card(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The card '{path.name}' cannot be read.",
            f"The system says: {error.strerror}.",
            "Give --card the path of the model's card, a JSON file.",
        ) from error
    except ValueError as error:
        raise InputError(
            f"The card '{path.name}' cannot be read.",
            f"There is a file, but it is not valid JSON text: {error}.",
            "Correct the card at that place: JSON has no comments, and no comma after the last entry.",
        ) from error
    if not isinstance(fields, dict):
        raise InputError(
            f"The card '{path.name}' cannot be read.",
            f"It holds a {type(fields).__name__}, not an object with fields.",
            "Give --card a card.json.",
        )
    return fields


def _as_json(done: Exported, out: str) -> dict[str, Any]:
    return {
        "event": "result",
        "model": done.card.name,
        "folder": out,
        "network": done.card.network,
        "runtime": done.card.runtime,
        "runtime_reason": done.card.runtime_reason,
        "values": done.values,
        "files": [vars(f) for f in done.card.files],
        "sizes": [list(s) for s in done.sizes],
        "largest_logit": done.largest_logit,
        "difference_by_rounding": done.rounding,
        "difference_of_runtimes": done.runtimes,
    }


def _tell(done: Exported, out: str) -> None:
    card = done.card
    console.out.print(
        f"{card.title} ({card.name} {card.version}): {card.network}, {done.values:,} values", markup=False
    )
    for file in card.files:
        console.out.print(
            f"  {file.name:<20} {file.size_bytes:>12,} bytes  SHA-256 {file.sha256[:12]}...", markup=False
        )
    sizes = " and ".join("x".join(map(str, s)) for s in done.sizes)
    console.out.print(f"Random input of {sizes} voxels, logits up to {done.largest_logit:.3g}:")
    console.out.print(f"  half-precision weights change them by up to {done.rounding:.2g}")
    if done.runtimes is not None:
        console.out.print(f"  OpenVINO and PyTorch differ by up to {done.runtimes:.2g}")
    if card.runtime == "torch":
        console.out.print(f"It has no graph and runs in PyTorch only. {card.runtime_reason}", markup=False)
    console.out.print(f"Model: {out}" + os.sep, markup=False)
    console.out.print(f"Install it with: strokeseg models add {out}", markup=False)


def main() -> None:
    """Entry point of ``strokeseg-train``."""
    # A pipe on Windows may have an encoding that lacks what names and units need.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    app()


if __name__ == "__main__":
    main()
