"""``strokeseg-train import-keras``: weights of Keras as a checkpoint that ``export`` and ``fit`` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, in_words
from strokeseg.errors import DependencyError, InputError

if TYPE_CHECKING:
    from strokeseg_training.import_keras import Imported


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(name="import-keras")(import_keras)


def import_keras(
    weights: Annotated[
        str,
        typer.Argument(
            help="The .h5 file of Keras; of mscs-net an .npz file, written where Keras is installed with: "
            "np.savez('weights.npz', **{getattr(w, 'path', w.name): w.numpy() for w in model.weights})",
            metavar="WEIGHTS",
        ),
    ],
    network: Annotated[str, typer.Option(help="atlas-unet, atlas-segnet, atlas-resunet or mscs-net. Required.")],
    out: Annotated[str, typer.Option(help="The file to make, .safetensors. Required.")],
    output: FormatOption = Format.text,
) -> None:
    """Carry the weights of a network that was published in Keras over to ours."""
    with in_words(output):
        place = Path(out)
        _refuse_place(place)
        done = _library(network)(weights, network)
        values = _write(done, place)
    if output is Format.json:
        console.print_json(
            {"event": "result", "network": network, "file": str(place), "values": values, "names": done.names}
        )
        return
    for theirs, ours in done.names.items():
        console.out.print(f"  {theirs:<32} -> {ours}", markup=False)
    console.out.print(f"{network}: {values:,} values of {len(done.names)} layers", markup=False)
    console.out.print(f"Weights: {place}", markup=False)
    console.out.print(f"Export with: strokeseg-train export --card CARD --checkpoint {place} --out MODEL", markup=False)


def _refuse_place(place: Path) -> None:
    if place.suffix != ".safetensors":
        raise InputError(
            "The weights cannot be written there.",
            f"'{place.name}' does not end with '.safetensors', the format that is written.",
            "Give --out a name that ends so.",
        )
    if place.exists() or not place.parent.is_dir():
        cause = f"'{place}' exists." if place.exists() else f"There is no folder '{place.parent}'."
        raise InputError(
            "The weights cannot be written there.", cause, "Give --out a new file in a folder that exists."
        )


def _write(done: Imported, place: Path) -> int:
    """Write the file, which appears whole; gives its number of values."""
    from safetensors.torch import save  # noqa: PLC0415  PyTorch takes seconds, --help must not

    partial = place.with_name(place.name + ".part")
    try:
        partial.write_bytes(save(done.state))
        partial.replace(place)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            "The weights cannot be written.", f"The system says: {error.strerror}.", "Choose another place for --out."
        ) from error
    return sum(tensor.numel() for name, tensor in done.state.items() if not name.endswith("num_batches_tracked"))


def _library(network: str) -> Any:
    """What reads the weights of a network."""
    try:
        from strokeseg_training import import_keras, import_npz  # noqa: PLC0415  as above
    except ImportError as error:
        raise DependencyError(
            "Weights of Keras cannot be imported here.",
            f"A library is missing: {error}.",
            "Install it with: pip install 'strokeseg[train]'.",
        ) from error
    return import_npz.import_npz if network in import_npz.NETWORKS else import_keras.import_keras
