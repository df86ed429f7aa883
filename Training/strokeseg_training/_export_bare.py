"""A graph from elsewhere: its weights taken out, its input and outputs named as the engine expects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper, version_converter
from torch import Tensor

from strokeseg.errors import InputError, ModelError
from strokeseg_training._export_graph import OPSET, TINY_BYTES, parts

_PROBABILITIES = ("Sigmoid", "Softmax", "HardSigmoid", "ArgMax")


def read_graph(path: Path) -> Any:
    """An ONNX model from a file, weights inside, in operator set 18 where it was older.

    Raises:
        InputError: There is no such file.
        ModelError: It is no ONNX model.
    """
    if not path.is_file():
        raise InputError(f"There is no graph '{path.name}'.", f"'{path}' is no file.", "Give the path of an ONNX file.")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelError(
            f"The graph '{path.name}' cannot be read.",
            f"It is no valid ONNX model: {str(error).strip().splitlines()[0][:200] if str(error) else 'damaged'}",
            "Export the network to ONNX again; for a checkpoint of PyTorch, name its network instead of 'graph'.",
        ) from error
    (version,) = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")} or {OPSET}
    if version >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The graph '{path.name}' is too old.",
            f"It uses operator set {version}, and cannot be brought to {OPSET}: {lines[0][:200]}",
            f"Export the network to ONNX again with opset_version={OPSET}.",
        ) from error


def fit_to_engine(model: Any, outputs: Sequence[str]) -> tuple[int, tuple[int, int, int] | None]:
    """Name input and outputs of a graph as the engine does, and read what it takes.

    The number of cases is made free: programs that export a network for one size fix it at one, and the engine runs
    several windows at a time. Whether the graph holds for two is seen when it is run.

    Args:
        model: ONNX model; changed.
        outputs: Names for its outputs, in order; further ones are dropped.

    Returns:
        Channels of the input (0: any), and its size (x, y, z) where it is fixed.

    Raises:
        ModelError: The graph does not take one volume, has too few outputs, or gives probabilities.
    """
    graph = model.graph
    weights = {i.name for i in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    title = "The graph does not fit."
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 5:
        shapes = [[d.dim_value or d.dim_param or "?" for d in i.type.tensor_type.shape.dim] for i in inputs]
        raise ModelError(
            title, f"It has the inputs {shapes}; expected is one, (N, C, x, y, z).", "Export it with one 5D input."
        )
    if len(graph.output) < len(outputs):
        raise ModelError(
            title,
            f"It has {len(graph.output)} outputs; the card names {len(outputs)}: {', '.join(outputs)}.",
            "Correct 'outputs' in the card.",
        )
    del graph.output[len(outputs) :]
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    if made_by.get(graph.output[0].name) in _PROBABILITIES:
        raise ModelError(
            title,
            f"Its last operation is a {made_by[graph.output[0].name]}; the engine expects logits and does this itself.",
            "Export the network without its last activation.",
        )
    for value, name in zip([inputs[0], *graph.output], ["input", *outputs], strict=True):
        _rename(graph, value.name, name)
    _, channels, x, y, z = (d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
    # A graph for slices may fix the third axis alone.
    if (x or y or z > 1) and not (x and y and z):
        shown = ", ".join(str(d) if d else "any" for d in (x, y, z))
        raise ModelError(
            title,
            f"It takes the sizes ({shown}): some axes are fixed, others free.",
            "Export it with all three axes of the volume free, or with all three fixed.",
        )
    for value in (inputs[0], *graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    # Sizes in between, which were noted for one case.
    del graph.value_info[:]
    return channels, (x, y, z) if x and y and z else None


def take_weights(model: Any) -> dict[str, Tensor]:
    """Every constant of a graph that is not tiny, by name; constants made by nodes become initialisers.

    Args:
        model: ONNX model; changed.
    """
    graph = model.graph
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.ByteSize() > TINY_BYTES:
                initialiser = graph.initializer.add()
                initialiser.CopyFrom(attribute.t)
                initialiser.name = node.output[0]
                graph.node.remove(node)
    state = {}
    for initialiser in graph.initializer:
        if initialiser.ByteSize() > TINY_BYTES:
            state[initialiser.name] = torch.from_numpy(numpy_helper.to_array(initialiser).copy())
    # Older graphs list their weights as inputs, too.
    values = [i for i in graph.input if i.name == "input"]
    del graph.input[:]
    graph.input.extend(values)
    return state


def _rename(graph: Any, old: str, new: str) -> None:
    """Rename a value; whatever has the new name already steps aside."""
    if old == new:
        return
    swap = {old: new, new: f"{new}.other"}
    for part in parts(graph):
        for value in (*part.input, *part.output, *part.initializer):
            value.name = swap.get(value.name, value.name)
        for node in part.node:
            node.input[:] = [swap.get(i, i) for i in node.input]
            node.output[:] = [swap.get(o, o) for o in node.output]
