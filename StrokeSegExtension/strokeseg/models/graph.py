"""The check of a model's graph before a runtime reads it: its tensors point nowhere else, its operators are ONNX's own.

The graph is read as bytes, so that neither the library nor a crafted file decides what is looked at. Tensors can sit
in the main graph, in attributes of nodes, in graphs within nodes, in functions and in training information; all are
visited. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from strokeseg.errors import ModelError
from strokeseg.models import onnx_messages as messages
from strokeseg.models.finite import FLOATS, has_nan
from strokeseg.models.operators import NEWEST_SET, OLDEST_SET, OPERATORS
from strokeseg.models.safetensors_header import ITEM_BYTES, StoredTensor
from strokeseg.models.wire import Budget, Message, Record, WireError, packed_numbers, read_message

WEIGHTS = "weights.safetensors"
INPUT = "input"
# Versions of the file format whose messages are those of `onnx_messages`.
_FORMATS = range(3, 15)
_MOST_BYTES = 64 * 1024**2
# A node has some ten fields; the largest networks have a few thousand nodes.
_MOST_FIELDS = 1_000_000
_MOST_LEVELS = 16
_OWN_DOMAINS = ("", "ai.onnx")
_EXTERNAL = 1
_POINTER_KEYS = {"location", "offset", "length", "checksum"}
_WHOLE = re.compile(r"[0-9]{1,15}")
# ONNX's numbers of types (TensorProto.DataType) in the names of safetensors.
_KINDS = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32",
    13: "U64", 16: "BF16",
}  # fmt: skip
_AGAIN = "Export the model again with 'strokeseg-train export', or get it again from where it came from."


def check_graph(path: Path, weights: Mapping[str, StoredTensor] | None, outputs: Sequence[str]) -> None:
    """Refuse a graph that reads other files, uses operators beyond ONNX's own, or does not fit its card.

    Args:
        path: The graph.
        weights: The tensors of the weights file beside it; None: there is none.
        outputs: Names of the outputs that the card promises.

    Raises:
        ModelError: Says what was found and where.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise _refused(
            path.name,
            f"It has {size} bytes, at most {_MOST_BYTES} are read: its weights belong into '{WEIGHTS}'",
            "Export it with 'strokeseg-train export', which takes the weights out of the graph.",
        )
    data = memoryview(path.read_bytes())
    try:
        _Check(path.name, weights, outputs).model(data)
    except WireError as error:
        raise _refused(path.name, f"It is no ONNX graph, or a damaged one: {error}") from error


def _refused(name: str, cause: str, next_step: str = _AGAIN) -> ModelError:
    return ModelError(f"The graph '{name}' was refused.", f"{cause}.", next_step)


class _Check:
    """One visit to every part of one graph."""

    def __init__(self, name: str, weights: Mapping[str, StoredTensor] | None, outputs: Sequence[str]) -> None:
        self._name = name
        self._outputs = outputs
        self._has_weights = weights is not None
        self._kinds: dict[tuple[int, int], set[str]] = {}
        for tensor in (weights or {}).values():
            self._kinds.setdefault((tensor.begin, tensor.end - tensor.begin), set()).add(tensor.kind)
        self._budget = Budget(_MOST_FIELDS)

    def model(self, data: memoryview) -> None:
        model = self._read(data, messages.MODEL)
        version = model.number("ir_version")
        if version not in _FORMATS:
            self._refuse(f"Its file format (IR) has version {version}; {_FORMATS[0]} to {_FORMATS[-1]} are read")
        self._operator_sets(model)
        if not model.data("graph"):
            self._refuse("It holds no graph")
        self._graph(model.data("graph")[0], 1, main=True)
        for function in model.data("functions"):
            self._function(self._read(function, messages.FUNCTION))
        for training in model.data("training_info"):
            parts = self._read(training, messages.TRAINING)
            for graph in (*parts.data("initialization"), *parts.data("algorithm")):
                self._graph(graph, 1)

    def _operator_sets(self, owner: Record) -> None:
        versions = []
        for data in owner.data("opset_import"):
            operators = self._read(data, messages.OPERATOR_SET)
            if operators.text("domain") in _OWN_DOMAINS:
                versions.append(operators.number("version"))
        wrong = [v for v in versions if not OLDEST_SET <= v <= NEWEST_SET]
        if wrong or not versions:
            seen = f"version {wrong[0]} of" if wrong else "no version of"
            self._refuse(
                f"It asks for {seen} ONNX's operator set; {OLDEST_SET} to {NEWEST_SET} are known",
                f"Export it with operator set {OLDEST_SET}, or update StrokeSeg.",
            )

    def _graph(self, data: memoryview, level: int, *, main: bool = False) -> None:
        if level > _MOST_LEVELS:
            self._refuse(f"Its graphs are nested more than {_MOST_LEVELS} levels deep")
        graph = self._read(data, messages.GRAPH)
        constants = [self._tensor(t, "an initialiser") for t in graph.data("initializer")]
        constants += [self._sparse(t) for t in graph.data("sparse_initializer")]
        for node in graph.data("node"):
            self._node(self._read(node, messages.NODE), level)
        if main:
            self._refuse_other_ends(graph, set(constants))

    def _refuse_other_ends(self, graph: Record, constants: set[str]) -> None:
        inputs, outputs = (
            [self._read(d, messages.VALUE).text("name") for d in graph.data(end)] for end in ("input", "output")
        )
        inputs = [name for name in inputs if name not in constants]
        if inputs != [INPUT]:
            self._refuse(f"Its inputs are {_listed(inputs)}; expected is one, '{INPUT}'")
        missing = [name for name in self._outputs if name not in outputs]
        if missing:
            self._refuse(
                f"It has no output {_listed(missing)}, which the card names; its outputs are {_listed(outputs)}",
                "Correct 'outputs' in the card, or export the model again with all its outputs.",
            )
        if len(outputs) != len(self._outputs):
            self._refuse(
                f"Its outputs are {_listed(outputs)}; the card names {_listed(self._outputs)}",
                "Correct 'outputs' in the card, or export the model again without the other outputs.",
            )

    def _function(self, function: Record) -> None:
        self._operator_sets(function)
        for node in function.data("node"):
            self._node(self._read(node, messages.NODE), 1)
        for attribute in function.data("attribute_proto"):
            self._attribute(attribute, 1)

    def _node(self, node: Record, level: int) -> None:
        domain, operator = node.text("domain"), node.text("op_type")
        if domain not in _OWN_DOMAINS or operator not in OPERATORS:
            full = f"{domain}.{operator}" if domain not in _OWN_DOMAINS else operator
            self._refuse(
                f"It uses the operator {_shown(full)}, which ONNX itself does not define",
                f"Export the network with the operators of ONNX only (set {OLDEST_SET}), or add it without a graph "
                "('runtime': 'torch').",
            )
        for attribute in node.data("attribute"):
            self._attribute(attribute, level)

    def _attribute(self, data: memoryview, level: int) -> None:
        attribute = self._read(data, messages.ATTRIBUTE)
        for tensor in (*attribute.data("t"), *attribute.data("tensors")):
            self._tensor(tensor, "an attribute")
        for sparse in (*attribute.data("sparse_tensor"), *attribute.data("sparse_tensors")):
            self._sparse(sparse)
        for graph in (*attribute.data("g"), *attribute.data("graphs")):
            self._graph(graph, level + 1)

    def _sparse(self, data: memoryview) -> str:
        sparse = self._read(data, messages.SPARSE)
        names = [self._tensor(t, "a sparse tensor") for t in (*sparse.data("values"), *sparse.data("indices"))]
        return names[0] if names else ""

    def _tensor(self, data: memoryview, where: str) -> str:
        """Check a tensor; gives its name."""
        tensor = self._read(data, messages.TENSOR)
        name = tensor.text("name")
        shown = f"The tensor {_shown(name)}" if name else f"A tensor in {where}"
        if tensor.number("data_location") or tensor.data("external_data"):
            self._pointer(tensor, shown)
        elif self._holds_nan(tensor):
            self._refuse(
                f"{shown} holds values that are no numbers (NaN)", "Use an earlier checkpoint of the training."
            )
        return name

    def _pointer(self, tensor: Record, shown: str) -> None:
        """Refuse a tensor whose numbers are elsewhere than exactly in one of the tensors of the weights file."""
        if tensor.number("data_location") != _EXTERNAL or any(tensor.has(f) for f in messages.INLINE):
            self._refuse(f"{shown} says both that its numbers are in the graph and that they are not")
        place: dict[str, str] = {}
        for entry in tensor.data("external_data"):
            pair = self._read(entry, messages.PAIR)
            key = pair.text("key")
            if key in place or key not in _POINTER_KEYS:
                self._refuse(
                    f"{shown} points to its numbers with {_shown(key)}, which is unknown or stands there twice"
                )
            place[key] = pair.text("value")
        if place.get("location") != WEIGHTS:
            self._refuse(
                f"{shown} takes its numbers from {_shown(place.get('location', 'nowhere'))}; only the model's own "
                f"'{WEIGHTS}' may be read"
            )
        if not self._has_weights:
            self._refuse(f"{shown} takes its numbers from '{WEIGHTS}', which the model does not have")
        numbers = [place.get(key, "") for key in ("offset", "length")]
        if not all(_WHOLE.fullmatch(n) for n in numbers):
            self._refuse(f"{shown} points to the bytes {' and '.join(map(_shown, numbers))}: an offset and a length")
        offset, length = map(int, numbers)
        kinds = self._kinds.get((offset, length))
        if kinds is None:
            self._refuse(f"{shown} points to {length} bytes from byte {offset} of '{WEIGHTS}', where no tensor lies")
        kind = _KINDS.get(tensor.number("data_type"), "")
        if kind not in kinds:
            self._refuse(
                f"{shown} is of the type {kind or 'unknown'}, the weights there are {' or '.join(sorted(kinds))}"
            )
        dims = tensor.numbers("dims") or [n for d in tensor.data("dims") for n in packed_numbers(d, self._budget)]
        if math.prod(dims) * ITEM_BYTES[kind] != length:
            self._refuse(f"{shown} of the shape {dims} cannot be {length} bytes long")

    def _holds_nan(self, tensor: Record) -> bool:
        """Whether a tensor within the graph holds NaN. Infinity is a constant like any other: masks are made of it."""
        kind = _KINDS.get(tensor.number("data_type"), "")
        if kind not in FLOATS:
            return False
        inline = {"F32": "float_data", "F64": "double_data"}.get(kind, "int32_data")
        if inline == "int32_data":  # half floats, each in a number of its own
            halves = tensor.numbers(inline) + [n for d in tensor.data(inline) for n in packed_numbers(d, self._budget)]
            pieces = [b"".join((n & 0xFFFF).to_bytes(2, "little") for n in halves)]
        else:
            pieces = [bytes(d) for d in tensor.data(inline)]
        pieces += [bytes(d) for d in tensor.data("raw_data")]
        if any(len(p) % ITEM_BYTES[kind] for p in pieces):
            self._refuse("The numbers of a tensor within it are cut off")
        return any(has_nan(p, kind) for p in pieces)

    def _read(self, data: memoryview, message: Message) -> Record:
        return read_message(data, message, self._budget)

    def _refuse(self, cause: str, next_step: str = _AGAIN) -> NoReturn:
        raise _refused(self._name, cause, next_step)


def _shown(text: str) -> str:
    """A text from the graph as it can be printed in one line."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_shown, names[:8])) or "none"
