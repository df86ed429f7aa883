"""What is exported: a network by name, one of somebody's own, or a graph file; and whether it fits its card."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard, parse_card
from strokeseg.networks import NetworkForm, build, form_of, load_state
from strokeseg_training import _export_bare as bare
from strokeseg_training._export_weights import read_state, without_prefix

Source = nn.Module | Mapping[str, Tensor] | str | Path


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        data: The card's fields.
        form: What the network takes.
        network: In PyTorch, in evaluation mode; None for a graph file.
        model: The ONNX model of a graph file.
        state: The weights, as they were trained.
        name: Of the network, where PyTorch can build it again.
    """

    data: dict[str, Any]
    form: NetworkForm
    network: nn.Module | None
    model: Any
    state: dict[str, Tensor]
    name: str


def from_name(source: Source, card: Mapping[str, Any]) -> Subject:
    """A network that can be built by its name, with its trained weights."""
    name = card["network"]
    network = build(name, **card.get("network_arguments", {}))
    if isinstance(source, nn.Module):
        source = source.state_dict()
    load_state(network, without_prefix(source if isinstance(source, Mapping) else read_state(Path(source)), network))
    form = form_of(network)
    data = completed(card, {"outputs": list(form.outputs), "input_shape": list(form.input_shape or [])})
    checked = parse_card(data)
    if checked.outputs != form.outputs or (form.input_shape and checked.input_shape != form.input_shape):
        raise ModelError(
            "The network does not fit its card.",
            f"It has the outputs {', '.join(form.outputs)} and takes {form.input_shape or 'any size'}; the card says "
            f"{', '.join(checked.outputs)} and {checked.input_shape or 'any size'}.",
            "Leave 'outputs' and 'input_shape' out of the card; they are filled in.",
        )
    if checked.input_shape:
        form = replace(form, input_shape=checked.input_shape)
    network.eval().requires_grad_(requires_grad=False)
    return Subject(data, _fitting(form, checked), network, None, network.state_dict(), name)


def from_module(source: nn.Module | Mapping[str, Tensor], card: Mapping[str, Any]) -> Subject:
    """A network of somebody's own, of which only the graph is kept."""
    if not isinstance(source, nn.Module):
        raise ModelError(
            "A bare graph cannot be made of weights alone.",
            "The card says 'network': 'graph', and a state dict does not say what is computed.",
            "Give the network itself, an ONNX file, or the name of a network in the card.",
        )
    data = completed(card)
    checked = parse_card(data)
    network = copy.deepcopy(source).cpu().float().eval().requires_grad_(requires_grad=False)
    return Subject(data, _form_by_card(checked), network, None, network.state_dict(), "")


def from_graph_file(source: str | Path, card: Mapping[str, Any]) -> Subject:
    """A graph from an ONNX file."""
    model = bare.read_graph(Path(source))
    checked = parse_card(completed(card))
    channels, shape = bare.fit_to_engine(model, checked.outputs)
    data = completed(card, {"input_shape": list(shape or [])})
    checked = parse_card(data)
    form = _form_by_card(checked)
    form = replace(form, in_channels=channels or form.in_channels)
    return Subject(data, _fitting(form, checked), None, model, {}, "")


def completed(card: Mapping[str, Any], found: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The card's fields with those that the export knows or `found`; ``files`` follow."""
    data = {"format": 1, **card, "runtime": "openvino", "runtime_reason": "", "files": []}
    return {**data, **{key: value for key, value in (found or {}).items() if not data.get(key)}}


def _form_by_card(card: ModelCard) -> NetworkForm:
    multiple = card.preparation.multiple
    slices = card.strategy == "slices"
    return NetworkForm(
        in_channels=len(card.preparation.channels),
        outputs=card.outputs,
        multiples=(multiple, multiple, 1 if slices else multiple),
        input_shape=card.input_shape,
        slices=slices,
    )


def _fitting(form: NetworkForm, card: ModelCard) -> NetworkForm:
    """The form, unless the card promises the network something else."""
    title, channels = "The network does not fit its card.", card.preparation.channels
    if form.slices != (card.strategy == "slices"):
        what = "slices" if form.slices else "volumes"
        raise ModelError(
            title,
            f"It works on {what}; the card's 'strategy' is '{card.strategy}'.",
            "Set 'strategy' in the card to " + ("'slices'." if form.slices else "'whole' or 'windows'."),
        )
    if form.in_channels != len(channels):
        raise ModelError(
            title,
            f"It takes {form.in_channels} channels, the card names {len(channels)}: {', '.join(channels)}.",
            "Correct 'preparation.channels' or the network's number of input channels.",
        )
    in_plane = form.multiples[:2] if form.slices else form.multiples
    if any(card.preparation.multiple % m for m in in_plane) and form.input_shape is None:
        raise ModelError(
            title,
            f"Its input must be a multiple of {form.multiple} along each axis; the card pads to {_of(card)}.",
            f"Set 'preparation.multiple' in the card to {form.multiple}.",
        )
    for field, size in (("window", card.window), ("input_shape", card.input_shape)):
        if size is not None and any(s % m for s, m in zip(size, form.multiples, strict=True)):
            raise ModelError(
                title,
                f"'{field}' is {size}; its axes must be multiples of {form.multiples}.",
                f"Correct '{field}' in the card.",
            )
    return form


def _of(card: ModelCard) -> str:
    return f"multiples of {card.preparation.multiple}"
