"""`export_model`: from a trained network to a model folder, which appears only when both runtimes agree with it.

The folder holds ``weights.safetensors`` (half floats), ``network.onnx`` (the graph alone, pointing into the weights)
and ``card.json`` with sizes and hashes. The same weights and card give the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import load
from torch import nn

from strokeseg.errors import ModelError
from strokeseg.events import Monitor
from strokeseg.models import ModelCard, parse_card, read_card
from strokeseg.models.contents import check_folder
from strokeseg.networks import load_state, names
from strokeseg.networks.state import shared_names
from strokeseg.runtime.openvino import OpenVinoRuntime
from strokeseg.runtime.pytorch import TorchRuntime
from strokeseg_training import _export_bare as bare
from strokeseg_training import _export_check as trial
from strokeseg_training._export_graph import WEIGHTS, attach, fixed_at, traced
from strokeseg_training._export_place import appearing, refuse_used
from strokeseg_training._export_subject import Source, Subject, completed, from_graph_file, from_module, from_name
from strokeseg_training._export_weights import half_weights

GRAPH = "network.onnx"


@dataclass(frozen=True)
class Exported:
    """What was made, and how closely it gives what the network gave; differences are the largest, in logits.

    Attributes:
        card: The card in the folder.
        values: Numbers in the weights: parameters, and what normalisation remembers.
        sizes: Sizes (x, y, z) of the random inputs.
        largest_logit: Largest absolute logit on them.
        rounding: Half-precision weights against the network's own.
        runtimes: OpenVINO against PyTorch, the same weights in both; None without a graph, or without PyTorch.
    """

    card: ModelCard
    values: int
    sizes: list[tuple[int, int, int]]
    largest_logit: float
    rounding: float
    runtimes: float | None


def export_model(
    source: Source, card: Mapping[str, Any], folder: str | Path, *, monitor: Monitor | None = None
) -> Exported:
    """Make a model folder.

    Args:
        source: A network; its state dict; a checkpoint file with one (``.pt``, ``.ckpt``, ``.safetensors``), read
            without running code from it; or, for ``network: graph``, an ONNX file.
        card: The card's fields; ``files``, ``runtime`` and ``runtime_reason`` are filled in; ``format``, ``outputs``
            and ``input_shape``, too, where they are missing.
        folder: The model folder: absent or empty.
        monitor: Hears of the stages, and is asked between them whether to stop; nothing is left behind then.

    Raises:
        Cancelled: The monitor said so.
        InputError: A file is missing, or the folder is not free.
        ModelError: The weights do not fit the network, the network not the card, or neither runtime can run it.
    """
    place = Path(os.path.realpath(folder))
    monitor = monitor or Monitor()
    refuse_used(place)
    with monitor.stage("read", "reading the weights"):
        subject = _subject(source, card)
    with appearing(place) as partial:
        done = _exported(subject, partial, monitor)
        with monitor.stage("check", "checking the model folder"):
            check_folder(partial)
        # The last moment: from here on the model is there.
        monitor.check()
    return replace(done, card=read_card(place))


def _subject(source: Source, card: Mapping[str, Any]) -> Subject:
    if card.get("runtime") == "threshold":
        raise ModelError(
            "There is nothing to export.",
            f"The card is that of a rule without network ('{card.get('network')}'), which has no weights.",
            "Copy its folder; to export a network, take 'runtime' out of the card and set 'network' to one of: "
            + ", ".join(names())
            + ".",
        )
    if parse_card(completed(card)).network != "graph":
        return from_name(source, card)
    return from_graph_file(source, card) if isinstance(source, str | Path) else from_module(source, card)


def _exported(subject: Subject, partial: Path, monitor: Monitor) -> Exported:
    """Write the model into an empty folder and try it."""
    batches = trial.trial_batches(subject.form)
    outputs, classes = subject.form.outputs, len(subject.data["classes"])
    state = subject.state if subject.network is not None else bare.take_weights(copy.deepcopy(subject.model))
    # First of all: what cannot be stored is said before anything is computed with it.
    weights = half_weights(state)
    with monitor.stage("network", "running the network as it is"):
        before = _before(subject, partial, batches)
    for results, batch in zip(before, batches, strict=True):
        trial.check_outputs(results, batch, outputs, 1 if classes == 1 else classes + 1)
    with monitor.stage("torch", "running it with the stored weights in PyTorch"):
        torch_results = _in_torch(subject, partial, weights, batches)
    with monitor.stage("graph", "making the graph"):
        graph, reason = _graph(subject, weights)
    graph_results = None
    if graph is not None:
        with monitor.stage("openvino", "running the graph in OpenVINO"):
            card = _write(partial, subject.data, {WEIGHTS: weights, GRAPH: graph})
            graph_results, reason = _in_openvino(card, batches, torch_results)
    if graph_results is None:
        if not subject.name:
            raise ModelError(
                "The network cannot be run by StrokeSeg.",
                f"OpenVINO cannot: {reason} PyTorch cannot either: it would have to build the network by a name.",
                "Use operations that ONNX has, or one of these networks: " + ", ".join(names()) + ".",
            )
        (partial / GRAPH).unlink(missing_ok=True)
        data = {**subject.data, "runtime": "torch", "runtime_reason": reason}
        card = _write(partial, data, {WEIGHTS: weights})
    apart = None
    if torch_results and graph_results:
        apart = max(trial.difference(a, b) for a, b in zip(torch_results, graph_results, strict=True))
    if graph is not None and graph_results is not None:
        data = {**subject.data, "runtime_reason": _why_openvino(apart)}
        card = _write(partial, data, {WEIGHTS: weights, GRAPH: graph})
    after = torch_results or graph_results or []
    rounding = max(trial.difference(a, b) for a, b in zip(after, before, strict=True))
    largest = max(trial.largest(r) for r in before)
    _refuse_rounding(rounding, largest)
    values = sum(state[group[0]].numel() for group in shared_names(state))
    return Exported(card, values, trial.trial_sizes(subject.form), largest, rounding, apart)


def _why_openvino(apart: float | None) -> str:
    """Why a network runs as a graph, for its card.

    Args:
        apart: Largest difference of its logits from PyTorch's; None: there is no network to compare it with.
    """
    measured = (
        "it was given as a graph, so there is no network in PyTorch to compare it with"
        if apart is None
        else f"for random input its logits differ from PyTorch's by up to {apart:.2g}"
    )
    return f"Its graph runs on CPUs without PyTorch; {measured}."


_Results = list[list[trial.Array]]


def _before(subject: Subject, partial: Path, batches: list[trial.Array]) -> _Results:
    """What the network gave before it was exported."""
    if subject.network is not None:
        return [_run_in_torch(subject.network, b, subject.form.outputs) for b in batches]
    graph = subject.model.SerializeToString()
    with _scratch(partial) as folder:

        def run(batch: trial.Array) -> list[trial.Array]:
            card = _write(folder, subject.data, {GRAPH: fixed_at(graph, batch.shape)})
            return _run(OpenVinoRuntime(card, threads=torch.get_num_threads()), [batch], card.outputs)[0]

        return trial.several_as_alone(run, batches)


def _in_torch(subject: Subject, partial: Path, weights: bytes, batches: list[trial.Array]) -> _Results | None:
    """What PyTorch gives with the stored weights, loaded strictly."""
    outputs = subject.form.outputs
    if subject.network is None:
        return None
    if subject.name:
        with _scratch(partial) as folder:
            data = {**subject.data, "runtime": "torch", "runtime_reason": "trial"}
            card = _write(folder, data, {WEIGHTS: weights})
            return _run(TorchRuntime(card, threads=torch.get_num_threads()), batches, outputs)
    rounded = copy.deepcopy(subject.network)
    load_state(rounded, load(weights))
    return [_run_in_torch(rounded, b, outputs) for b in batches]


def _run_in_torch(network: nn.Module, batch: trial.Array, outputs: tuple[str, ...]) -> list[trial.Array]:
    try:
        return trial.run_network(network, batch, outputs)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            "The network cannot be run.",
            f"An input of the shape {batch.shape} made it fail: {lines[0][:300]}",
            "Correct 'preparation.channels', 'preparation.multiple', 'input_shape' or 'outputs' in the card.",
        ) from error


def _run(runtime: OpenVinoRuntime | TorchRuntime, batches: list[trial.Array], outputs: tuple[str, ...]) -> _Results:
    try:
        results = [runtime.run(b) for b in batches]
    finally:
        runtime.close()
    return [[r[name] for name in outputs] for r in results]


def _graph(subject: Subject, weights: bytes) -> tuple[bytes | None, str]:
    """The content of ``network.onnx``, or why there is none."""
    form = subject.form
    if subject.network is None:
        model = copy.deepcopy(subject.model)
        own = {name: name for name in bare.take_weights(model)}
    else:
        if not form.any_size_in_graph and form.input_shape is None:
            return None, "The graph of a transformer holds for one size, and the card names none in 'input_shape'."
        # The number of cases is free in any case: the engine runs several windows at a time.
        dynamic = (0,) if form.input_shape is not None else (0, 2, 3) if form.slices else (0, 2, 3, 4)
        shape = (1, form.in_channels, *trial.trial_sizes(form)[0])
        own = {name: group[0] for group in shared_names(subject.state) for name in group}
        try:
            model = traced(subject.network, form.outputs, shape, dynamic)
        except Exception as error:  # noqa: BLE001  the exporter runs the network's own code, which raises what it likes
            lines = str(error).strip().splitlines() or [type(error).__name__]
            # What follows is a value of the exporter's own notation.
            return None, f"It has no ONNX form: {lines[0].split('[Caused by')[0].strip()[:300].rstrip('.')}."
    try:
        attach(model, weights, own)
    except ValueError as error:
        return None, f"It has no small graph: {error}."
    return model.SerializeToString(), ""


def _in_openvino(
    card: ModelCard, batches: list[trial.Array], torch_results: _Results | None
) -> tuple[_Results | None, str]:
    """What the graph gives; or None and why it is not to be used."""
    assert card.folder is not None
    try:
        onnx.checker.check_model(card.folder / GRAPH)
        check_folder(card.folder)
        _refuse_misfits(card, batches)
        results = _run(OpenVinoRuntime(card, threads=torch.get_num_threads()), batches, card.outputs)
    except onnx.checker.ValidationError as error:
        return None, f"Its graph is not valid: {str(error).strip().splitlines()[0][:300]}."
    except ModelError as error:
        return None, f"Its graph cannot be used: {error.cause.rstrip('.')}."
    for ours, theirs in zip(results, torch_results or results, strict=True):
        apart = trial.difference(ours, theirs)
        allowed = trial.RUNTIME_TOLERANCE * max(1.0, trial.largest(theirs) / 10)
        if not apart <= allowed:
            return None, f"In OpenVINO its logits differ by up to {apart:.2g} from PyTorch's; {allowed:.2g} is allowed."
    return results, ""


def _refuse_misfits(card: ModelCard, batches: list[trial.Array]) -> None:
    """Compile a graph for each shape before it is run with free sizes; see `fixed_at`.

    Raises:
        ModelError: Its layers do not fit each other for one of them.
    """
    assert card.folder is not None
    data = json.loads((card.folder / "card.json").read_text(encoding="utf-8"))
    weights, graph = ((card.folder / name).read_bytes() for name in (WEIGHTS, GRAPH))
    with _scratch(card.folder) as folder:
        for batch in batches:
            fixed = _write(folder, data, {WEIGHTS: weights, GRAPH: fixed_at(graph, batch.shape)})
            OpenVinoRuntime(fixed, threads=torch.get_num_threads()).close()


def _refuse_rounding(rounding: float, largest: float) -> None:
    allowed = trial.ROUNDING_TOLERANCE * max(1.0, largest)
    if not rounding <= allowed:
        raise ModelError(
            "The weights lose too much in half precision.",
            f"For a random input the logits change by up to {rounding:.3g}, of {largest:.3g} at most; {allowed:.3g} is "
            "allowed.",
            "Train with weight decay or normalisation, so that weights are neither tiny (below 6e-5) nor huge.",
        )


def _write(folder: Path, data: Mapping[str, Any], files: Mapping[str, bytes]) -> ModelCard:
    """The files of a model and its card, as it is read back."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = [
        {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in sorted(files.items())
    ]
    text = json.dumps({**data, "files": listed}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    return read_card(folder)


@contextmanager
def _scratch(partial: Path) -> Iterator[Path]:
    folder = partial / "trial"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
