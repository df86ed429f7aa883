"""OpenVINO: runs a model's graph on the CPU. The only file that imports the library."""

from __future__ import annotations

import functools
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import ModelError
from strokeseg.models import ModelCard
from strokeseg.models.contents import GRAPH
from strokeseg.models.graph import WEIGHTS
from strokeseg.runtime.base import Logits, Note, NumpyRuntime, check_sizes, memory_errors
from strokeseg.runtime.cache import CompiledCache, cache_key
from strokeseg.runtime.files import check_model_graph, check_weights, verified_files
from strokeseg.runtime.precision import cpu_precision, native_precisions
from strokeseg.runtime.threads import usable_threads

# The library's companion reports over the network that it was imported. Python takes None for "there is no such
# module", and the library then goes on without it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402


@functools.cache
def _library() -> ov.Core:
    """The one entrance to the library, kept until the process ends.

    The library's processor part gives the thread that loads it a signal stack of its own (for AMX, pull request 11894
    of OpenVINO), and takes it away with the last network. With one entrance for each network the stacks are put back
    in any order, the thread is left with one that is gone, and the next signal, Ctrl+C or a child's end, kills the
    process without a word.
    """
    return ov.Core()


_ops = ov.opset13
_NORMS = "2"  # rises when `_steady_norms` computes something else: compiled networks of before are then not read
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoRuntime(NumpyRuntime):
    """Runs the graph of a model; see `strokeseg.runtime.base.Runtime`.

    Args:
        card: A card with the file ``network.onnx``.
        precision: ``fp32``, ``bf16`` or ``fp16``; the latter two where the processor has them.
        threads: None: `usable_threads`.
        cache: Keeps compiled networks on the disk; None: each process compiles.

    Raises:
        ModelError: A file is missing or damaged, or the graph does not fit the card.
        MemoryLimitError: The network does not fit into the memory.
    """

    name = "openvino"

    def __init__(
        self,
        card: ModelCard,
        precision: str = "fp32",
        threads: int | None = None,
        cache: CompiledCache | None = None,
    ) -> None:
        files = verified_files(card, (GRAPH,) if card.network == "graph" else (GRAPH, WEIGHTS))
        if WEIGHTS in files:
            check_weights(files[WEIGHTS])
        check_model_graph(card, files)
        self._card = card
        reported = _library().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision, self.notes = cpu_precision(precision, native_precisions(reported))
        threads = threads or usable_threads()
        # Slices are many and small: a thread for each of several is faster than all threads for one after the other.
        streams = threads if card.strategy == "slices" else 1
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            # Always said: on processors with AMX the library would take bf16 by itself.
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": threads,
            # Two engines on one machine would pin their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._compiled(files[GRAPH], cache)
        self._outputs = _fitting_outputs(compiled, card)
        self._requests: list[Any] = [
            compiled.create_infer_request() for _ in range(compiled.get_property("NUM_STREAMS"))
        ]

    def run(self, batch: NDArray[np.float32]) -> Logits:
        """See `strokeseg.runtime.base.Runtime.run`."""
        shape = self._card.input_shape
        channels = len(self._card.preparation.channels)
        if batch.ndim != 5 or batch.shape[1] != channels or (shape is not None and batch.shape[2:] != shape):
            sizes = "x, y, z" if shape is None else ", ".join(map(str, shape))
            raise ModelError(
                f"The model '{self._card.name}' cannot take this input.",
                f"It takes (N, {channels}, {sizes}), given was {batch.shape}.",
                "Run it by the strategy of its card.",
            )
        try:
            with memory_errors(self.device):
                logits = self._infer(np.ascontiguousarray(batch, dtype=np.float32))
        except RuntimeError as error:
            raise ModelError(
                f"The model '{self._card.name}' cannot take this input.",
                f"An input of the shape {batch.shape} made it fail: {_reason(error)}",
                f"Its axes must be multiples of {self._card.preparation.multiple}; where they are, correct "
                "'preparation.multiple' in the card.",
            ) from error
        check_sizes(self._card.name, batch.shape, logits)
        return logits

    def close(self) -> None:
        """Give the memory back."""
        self._requests = []
        self._outputs = {}

    def _infer(self, batch: NDArray[np.float32]) -> Logits:
        """All of a batch, its parts at the same time where there is more than one stream."""
        parts = np.array_split(batch, max(min(len(self._requests), len(batch)), 1))
        running = self._requests[: len(parts)]
        failures = []
        for request, part in zip(running, parts, strict=True):
            request.start_async([part], share_inputs=True)
        for request in running:
            try:
                request.wait()
            except RuntimeError as failure:
                # The others are waited for: they still read their part of the batch.
                failures.append(failure)
        if failures:
            raise failures[0]
        return {
            name: np.concatenate([np.asarray(request.results[port], dtype=np.float32) for request in running])
            for name, port in self._outputs.items()
        }

    def _compiled(self, graph: Path, cache: CompiledCache | None) -> Any:
        """The network, ready to run; from the cache where it is wanted and works."""
        key = self._key() if cache is not None else ""
        try:
            blob = cache.load(key) if cache is not None else None
        except OSError as error:
            cache, blob = None, None
            self._say_cache_failed(error)
        if cache is not None and blob is not None:
            try:
                with memory_errors(self.device):
                    return _library().import_model(blob, "CPU", self._settings)
            except RuntimeError:
                # Whole, but of another build of the library: compiled anew below.
                cache.discard(key)
        try:
            with memory_errors(self.device):
                model = _library().read_model(graph)
                # In bf16 and fp16 the library's own norm sums in fp32, what is put in its place would not.
                if self.precision == "fp32":
                    _steady_norms(model)
                compiled = _library().compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise ModelError(
                f"The graph of the model '{self._card.name}' cannot be run.",
                f"OpenVINO {ov.__version__} says: {_reason(error)}",
                "Export the model again, or use a version of it that was made for this StrokeSeg.",
            ) from error
        if cache is not None:
            try:
                cache.store(key, compiled.export_model().getvalue())
            except OSError as error:
                self._say_cache_failed(error)
        return compiled

    def _key(self) -> str:
        """All that decides what is compiled."""
        return cache_key(
            **{f"file {file.name}": file.sha256 for file in self._card.files},
            openvino=ov.__version__,
            norms=_NORMS,
            processor=str(_library().get_property("CPU", "FULL_DEVICE_NAME")),
            capabilities=" ".join(sorted(_library().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
            system=f"{platform.system()} {platform.machine()}",
            **{name: str(value) for name, value in self._settings.items()},
        )

    def _say_cache_failed(self, error: OSError) -> None:
        message = f"The cache of compiled networks cannot be used ({error.strerror}); the network was compiled."
        self.notes = (*self.notes, Note("cache_unusable", message))


def _steady_norms(model: Any) -> None:
    """Instance norms of volumes with sums that do not depend on the number of threads, in place.

    The library adds up all voxels of a channel one after the other, each thread its part: over half a million of them
    the fp32 sum is off by so much that masks differed from those of PyTorch, on one thread more than on two. Sums along
    one axis first, and of these sums, are right on any number of threads. A reshape stands between the two, or the
    library makes one sum of them again.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MVN" or not _is_norm_of_volumes(node):
            continue
        volume = node.input_value(0)
        rest = _ops.subtract(volume, _mean(volume))
        variance = _mean(_ops.multiply(rest, rest))
        eps = _ops.constant(np.float32(node.get_attributes()["eps"]))
        made = _ops.divide(rest, _ops.sqrt(_ops.add(variance, eps)))
        node.output(0).replace(made.output(0))
    model.validate_nodes_and_infer_types()


def _is_norm_of_volumes(node: Any) -> bool:
    """Whether it is over x, y and z of (N, C, x, y, z), by the variance."""
    said, axes = node.get_attributes(), node.input_value(1).get_node()
    rank = node.input_value(0).get_partial_shape().rank
    return (
        rank.is_static
        and rank.get_length() == 5
        and axes.get_type_name() == "Constant"
        and sorted(int(a) % 5 for a in np.ravel(axes.data)) == [2, 3, 4]
        and bool(said["normalize_variance"])
        and str(said["eps_mode"]).lower().endswith("inside_sqrt")
    )


def _mean(volume: Any) -> Any:
    """Of (N, C, x, y, z) over the voxels: (N, C, 1, 1, 1)."""
    lines = _ops.reduce_mean(volume, _ops.constant(np.array([4])), keep_dims=False)
    flat = _ops.reshape(lines, _ops.constant(np.array([0, 0, -1])), special_zero=True)
    mean = _ops.reduce_mean(flat, _ops.constant(np.array([2])), keep_dims=False)
    return _ops.reshape(mean, _ops.constant(np.array([0, 0, 1, 1, 1])), special_zero=True)


def _fitting_outputs(compiled: Any, card: ModelCard) -> dict[str, Any]:
    """Name to output of the graph.

    Raises:
        ModelError: The input is not that of the card, or an output has another size.
    """
    channels = len(card.preparation.channels)
    shapes = [port.get_partial_shape() for port in compiled.inputs]
    fits = len(shapes) == 1 and shapes[0].rank.is_static and shapes[0].rank.get_length() == 5
    if not fits or (shapes[0][1].is_static and shapes[0][1].get_length() != channels):
        raise ModelError(
            f"The graph of the model '{card.name}' does not fit its card.",
            f"It must take one input (N, {channels}, x, y, z); it takes {', '.join(map(str, shapes))}.",
            "Export the model again, or correct the card.",
        )
    ports = {name: port for port in compiled.outputs for name in port.get_names()}
    for name in card.outputs:
        _refuse_other_size(name, shapes[0], ports[name].get_partial_shape(), card.name)
    return {name: ports[name] for name in card.outputs}


def _refuse_other_size(name: str, given: Any, made: Any, model: str) -> None:
    """Before it runs: the library writes such an output past the end of its memory, without an error.

    Raises:
        ModelError: An axis of the output has one size only, and the input's has not that one.
    """
    fits = made.rank.is_dynamic or all(
        made[axis].is_dynamic or (given[axis].is_static and given[axis] == made[axis]) for axis in (0, 2, 3, 4)
    )
    if not fits:
        raise ModelError(
            f"The graph of the model '{model}' does not fit its card.",
            f"Its output '{name}' has the shape {made.to_string()} for every input of the shape {given.to_string()}.",
            "Export the model again, so that an output has the size of its input.",
        )


def _reason(error: RuntimeError) -> str:
    """What went wrong, without the places in the library's source that come first."""
    lines = [line.strip().removeprefix("Caught exception: ") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from")]
    return " ".join(told)[:300] or "no reason given."
