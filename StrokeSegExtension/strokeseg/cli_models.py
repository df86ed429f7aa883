"""The commands ``strokeseg models``: list, show, verify, add, remove and fetch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg.errors import ModelError

app = typer.Typer(
    help="Models: list (the default), show, verify, add, remove, fetch.",
    no_args_is_help=False,
    invoke_without_command=True,
    rich_markup_mode=None,
)
NameArgument = Annotated[str, typer.Argument(help="Name of the model.")]


@app.callback()
def models(context: typer.Context) -> None:
    """List the models at hand ('list', the default), show or verify one, add, remove or download one."""
    if context.invoked_subcommand is None:
        models_list(Format.text)


@app.command("list")
def models_list(output: FormatOption = Format.text) -> None:
    """List the models at hand with what they need, and those that can be downloaded."""
    with in_words(output):
        from strokeseg.models import ModelStore, offers  # noqa: PLC0415  not needed for --help
        from strokeseg.tables import model_table  # noqa: PLC0415

        store = ModelStore()
        stored = store.models()
        names = set(store.names())
        offered = [o for o in offers() if o.name not in names]
        if output is Format.json:
            broken = [{"name": m.name, **m.problem.as_dict()} for m in stored if m.problem is not None]
            downloads = [{"name": o.name, "title": o.title, "size_bytes": o.size_bytes} for o in offered]
            console.print_json(
                {
                    "event": "result",
                    "models": [_card(m.card) for m in stored if m.card is not None],
                    "own": [m.name for m in stored if not m.bundled],
                    "broken": broken,
                    "downloadable": downloads,
                }
            )
            return
        console.out.print(model_table([m.card for m in stored if m.card is not None]))
        own = [m.name for m in stored if not m.bundled and m.card is not None]
        if own:
            console.out.print(f"Yours: {', '.join(own)}, in {store.user_folder}")
        for model in stored:
            if model.problem is not None:
                console.out.print(f"Not usable: {model.name}. {model.problem}")
        for offer in offered:
            size = f"{offer.size_bytes / 1e6:.1f} MB"
            console.out.print(f"Can be downloaded ({size}): strokeseg models fetch {offer.name}  ({offer.title})")


@app.command("show")
def models_show(name: NameArgument, output: FormatOption = Format.text) -> None:
    """Show everything a model's card says."""
    with in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415
        from strokeseg.tables import card_text  # noqa: PLC0415

        card = ModelStore().card(name)
        if output is Format.json:
            console.print_json({"event": "result", "model": _card(card)})
        else:
            console.out.print(card_text(card), markup=False)


@app.command("verify")
def models_verify(
    name: Annotated[str | None, typer.Argument(help="Name of the model. Default: all.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Check the files of one model or of all: sizes, hashes, structure, numbers, graph."""
    with in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415

        store = ModelStore()
        if name is not None:
            store.check(name)
            _say(output, f"The model '{name}' is as it should be.", {"sound": [name], "broken": []})
            return
        sound, wrong = [], []
        for model in store.models():
            try:
                if model.problem is not None:
                    raise model.problem
                store.check(model.name)
                sound.append(model.name)
            except ModelError as error:
                wrong.append((model.name, error))
        if not wrong:
            _say(output, f"As they should be: {', '.join(sound) or 'none'}.", {"sound": sound, "broken": []})
            return
        _tell_wrong(output, sound, wrong)
        raise typer.Exit(ModelError.exit_code)


@app.command("add")
def models_add(
    source: Annotated[str, typer.Argument(metavar="FOLDER_OR_ZIP", help="A model folder, or a zip of one.")],
    output: FormatOption = Format.text,
) -> None:
    """Check a model and take it into your own."""
    with in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415

        card = ModelStore().add(Path(source))
        _say(output, f"Added: {card.name} ({card.title}).", {"model": _card(card)})


@app.command("remove")
def models_remove(name: NameArgument, output: FormatOption = Format.text) -> None:
    """Delete one of your own models."""
    with in_words(output):
        from strokeseg.models import ModelStore  # noqa: PLC0415

        ModelStore().remove(name)
        _say(output, f"Removed: {name}.", {"removed": name})


@app.command("fetch")
def models_fetch(name: NameArgument, output: FormatOption = Format.text) -> None:
    """Download a model and take it into your own; the only command that opens a connection.

    Proxies are those of the environment (https_proxy). What was cancelled or interrupted goes on with the next try.
    """
    with in_words(output):
        from strokeseg.models import fetch  # noqa: PLC0415

        with cancellable(output) as monitor, monitor.stage("download", name):
            card = fetch(name, monitor=monitor)
        _say(output, f"Downloaded and added: {card.name} ({card.title}).", {"model": _card(card)})


def _say(output: Format, text: str, data: dict[str, Any]) -> None:
    if output is Format.json:
        console.print_json({"event": "result", **data})
    else:
        console.out.print(text)


def _tell_wrong(output: Format, sound: Sequence[str], wrong: Sequence[tuple[str, ModelError]]) -> None:
    """Every model is told about, not only the first that is wrong."""
    if output is Format.json:
        broken = [{"name": name, **error.as_dict()} for name, error in wrong]
        console.print_json({"event": "result", "sound": list(sound), "broken": broken})
        return
    if sound:
        console.out.print(f"As they should be: {', '.join(sound)}.")
    for _, error in wrong:
        console.show_error(error, as_json=False)


def _card(card: Any) -> dict[str, Any]:
    return json.loads((card.folder / "card.json").read_text(encoding="utf-8"))
