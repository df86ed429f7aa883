"""``network.onnx``: the graph alone, whose weights are bytes of ``weights.safetensors``."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from strokeseg_training._export_weights import header_of

WEIGHTS = "weights.safetensors"
OPSET = 18
# Numbers that stay in the graph: shapes, axes, scales. What is larger belongs to the weights.
TINY_BYTES = 1024
_TYPES = {
    "F16": TensorProto.FLOAT16,
    "I64": TensorProto.INT64,
    "I32": TensorProto.INT32,
    "U8": TensorProto.UINT8,
    "BOOL": TensorProto.BOOL,
}
_PREFIX = "network."


class _InOrder(nn.Module):
    """A network whose outputs come as a tuple, in the card's order."""

    def __init__(self, network: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        return in_order(self.network(batch), self.outputs)


def in_order(result: Any, outputs: Sequence[str]) -> tuple[Tensor, ...]:
    """A network's result, a tensor, a sequence or a dictionary, as a tuple in the order of `outputs`."""
    if isinstance(result, Mapping):
        return tuple(result[name] for name in outputs)
    return tuple(result) if isinstance(result, list | tuple) else (result,)


def traced(network: nn.Module, outputs: Sequence[str], shape: tuple[int, ...], dynamic: Sequence[int]) -> Any:
    """The ONNX form of a network, weights inside.

    Args:
        network: In evaluation mode.
        outputs: Names of its outputs.
        shape: (N, C, x, y, z) to trace it with.
        dynamic: Axes whose size is free.

    Raises:
        Exception: Whatever the exporter or the network raises where there is no such form.
    """
    axes = {axis: ("batch", "", "x", "y", "z")[axis] for axis in dynamic}
    file = io.BytesIO()
    with warnings.catch_warnings(), _exporter_silenced():
        # The exporter that follows a trace is the older of two. The newer one needs another package (onnxscript) and
        # renames weights; the graph is run afterwards in either case.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        # What a trace takes for constant is found by running the graph at a second size.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # Only speed is lost, and OpenVINO folds what PyTorch does not.
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            _InOrder(network, outputs).eval(),
            (torch.zeros(shape),),
            file,  # type: ignore[arg-type]  # this exporter takes files, the annotation knows paths
            input_names=["input"],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
            # Both would change weights: folding computes with them, evaluation mode melts norms into convolutions.
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamic_axes=dict.fromkeys(("input", *outputs), axes) if axes else None,
        )
    model = onnx.load_from_string(file.getvalue())
    renamed = {i.name: i.name.removeprefix(_PREFIX) for i in model.graph.initializer}
    for initialiser in model.graph.initializer:
        initialiser.name = renamed[initialiser.name]
    _rename_inputs(model.graph, renamed)
    return model


@contextmanager
def _exporter_silenced() -> Iterator[None]:
    """The exporter prints a whole network on standard output, past Python, when it gives up."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _rename_inputs(graph: Any, renamed: Mapping[str, str]) -> None:
    """What the nodes read, in one pass: a large network has a thousand weights and ten thousand nodes."""
    for node in graph.node:
        if any(i in renamed for i in node.input):
            node.input[:] = [renamed.get(i, i) for i in node.input]


def attach(model: Any, weights: bytes, names: Mapping[str, str]) -> None:
    """Replace the weights in a graph by pointers into ``weights.safetensors``; half floats are cast to floats.

    Args:
        model: ONNX model; changed.
        weights: Content of ``weights.safetensors``.
        names: Name of a weight in the graph to its name in `weights`.

    Raises:
        ValueError: The graph holds many numbers that are no weights.
    """
    header, start = header_of(weights)
    graph = model.graph
    _undo_sharing(graph, names)
    casts, inline, external = [], [], {}
    for initialiser in graph.initializer:
        entry = header.get(names.get(initialiser.name, ""))
        if entry is None or list(initialiser.dims) != entry["shape"]:
            inline.append(initialiser)
            continue
        stored = "stored." + names[initialiser.name]
        external[stored] = _pointer(stored, entry, start)
        casts.append(helper.make_node("Cast", [stored], [initialiser.name], to=initialiser.data_type))
    _refuse_large(graph, inline)
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*external.values(), *inline])
    graph.node.extend([*casts, *nodes])
    _strip(model)


def _undo_sharing(graph: Any, names: Mapping[str, str]) -> None:
    """Undo the exporter's merging of weights that happen to be equal, so that the graph depends on no value."""
    by_name = {i.name: i for i in graph.initializer}
    renamed, kept = {}, []
    for node in graph.node:
        source = by_name.get(node.input[0]) if node.op_type == "Identity" else None
        name = node.output[0].removeprefix(_PREFIX)
        if source is None or name not in names:
            kept.append(node)
            continue
        copy = graph.initializer.add()
        copy.CopyFrom(source)
        copy.name = name
        renamed[node.output[0]] = name
    if renamed:
        del graph.node[:]
        graph.node.extend(kept)
        _rename_inputs(graph, renamed)


def _pointer(name: str, entry: Mapping[str, Any], start: int) -> Any:
    begin, end = entry["data_offsets"]
    tensor = TensorProto(name=name, data_type=_TYPES[entry["dtype"]], dims=entry["shape"])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", start + begin), ("length", end - begin)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _refuse_large(graph: Any, inline: Sequence[Any]) -> None:
    constants = [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.HasField("t")]
    for tensor in (*inline, *constants):
        if tensor.ByteSize() > 2 * TINY_BYTES:
            raise ValueError(f"its graph holds {tensor.ByteSize()} bytes of numbers that are no weights")


def fixed_at(graph: bytes, shape: Sequence[int]) -> bytes:
    """The same graph for an input of one shape (N, C, x, y, z) only.

    Where every size is known, OpenVINO refuses to compile layers that do not fit each other. Where sizes are free it
    runs them, and a shape that a trace took for constant then reads and writes beyond its memory (OpenVINO 2026.4).
    """
    model = onnx.load_from_string(graph)
    (value,) = (i for i in model.graph.input if i.name == "input")
    for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    return model.SerializeToString()


def _strip(model: Any) -> None:
    """Drop what says where and by whom a graph was made: places in source files, names of layers."""
    model.graph.name = "network"
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    for graph in parts(model.graph):
        graph.ClearField("value_info")
        for node in graph.node:
            node.ClearField("name")
        for thing in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            thing.ClearField("doc_string")
            # The newer exporter of PyTorch writes the program's lines here.
            thing.ClearField("metadata_props")


def parts(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from parts(inner)
