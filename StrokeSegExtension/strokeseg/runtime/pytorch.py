"""PyTorch: runs a network on a GPU, and on the CPU what has no graph. Imported only when it is chosen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from strokeseg.errors import DependencyError, MemoryLimitError, ModelError
from strokeseg.models import ModelCard
from strokeseg.models.graph import WEIGHTS
from strokeseg.networks import build, form_of, load_state, named
from strokeseg.runtime.base import Logits, Note, Position, check_sizes, memory_errors, window_slices
from strokeseg.runtime.files import check_weights, verified_files
from strokeseg.runtime.precision import cpu_precision, native_precisions
from strokeseg.runtime.threads import usable_threads

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_cuda() -> bool:
    """Whether this PyTorch can use an NVIDIA GPU here."""
    return bool(torch.cuda.is_available())


class TorchRuntime:
    """Runs the network of a model; see `strokeseg.runtime.base.Runtime`.

    Args:
        card: A card with a network that `strokeseg.networks` can build, and its weights.
        device: ``cpu``, ``cuda:N`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        threads: On the CPU; None: `usable_threads`.

    Raises:
        DependencyError: The device is not there.
        ModelError: A file is missing or damaged, or does not fit the network.
        MemoryLimitError: The network does not fit into the device's memory.
    """

    name = "torch"

    def __init__(
        self, card: ModelCard, device: str = "cpu", precision: str = "fp32", threads: int | None = None
    ) -> None:
        _require(device)
        self.device = device
        self.precision, self.notes = _precision(device, precision)
        self._card = card
        self._place = torch.device(device)
        self._threads = (threads or usable_threads()) if self._place.type == "cpu" else None
        # Fast on CPUs in bf16, slow on GPUs, where instance normalisation wants the channels apart.
        self._channels_last = self._place.type == "cpu" and self.precision != "fp32"
        self._network: nn.Module | None = self._loaded()

    def run(self, batch: NDArray[np.float32]) -> Logits:
        """See `strokeseg.runtime.base.Runtime.run`."""
        with self._failures(batch.shape):
            return {name: tensor.cpu().numpy() for name, tensor in self._computed(batch).items()}

    def run_on_device(self, batch: NDArray[np.float32]) -> dict[str, Tensor]:
        """Logits by output name, on the device; see `strokeseg.runtime.base.Runtime.run_on_device`."""
        with self._failures(batch.shape):
            return self._computed(batch)

    def accumulator(self, shape: tuple[int, int, int], maps: int) -> TorchAccumulator:
        """See `strokeseg.runtime.base.Runtime.accumulator`."""
        with self._out_of_memory():
            return TorchAccumulator(shape, maps, self._place)

    def free_memory_bytes(self) -> int | None:
        """See `strokeseg.runtime.base.Runtime.free_memory_bytes`."""
        if self._place.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._place)
            # What PyTorch holds without using it can be used again.
            kept = torch.cuda.memory_reserved(self._place) - torch.cuda.memory_allocated(self._place)
            return int(free + kept)
        from strokeseg.runtime.devices import free_cpu_memory_bytes  # noqa: PLC0415  psutil, not needed at start

        return free_cpu_memory_bytes()

    def close(self) -> None:
        """Give the memory back."""
        self._network = None
        self._empty_cache()

    def _loaded(self) -> nn.Module:
        """The network with its weights, on the device."""
        files = verified_files(self._card, (WEIGHTS,))
        check_weights(files[WEIGHTS])
        network = build(self._card.network, **self._card.network_arguments)
        try:
            state = load_file(files[WEIGHTS])
        except SafetensorError as error:
            raise ModelError(
                f"The model '{self._card.name}' is damaged.",
                f"'{WEIGHTS}' is no safetensors file ({error}).",
                "Remove it and install it again from where it came from.",
            ) from error
        load_state(network, state)
        form, channels = form_of(network), len(self._card.preparation.channels)
        missing = [name for name in self._card.outputs if name not in form.outputs]
        if missing or form.in_channels != channels:
            raise ModelError(
                f"The network of the model '{self._card.name}' does not fit its card.",
                f"It has no output '{missing[0]}'; its outputs are {', '.join(form.outputs)}."
                if missing
                else f"It takes {form.in_channels} channels, the card names {channels}.",
                "Correct 'network_arguments', 'outputs' or 'preparation.channels' in the card.",
            )
        with self._out_of_memory():
            network = network.eval().requires_grad_(requires_grad=False).to(self._place)
            if self._channels_last:
                network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # missing in the stubs
            return network

    def _computed(self, batch: NDArray[np.float32]) -> dict[str, Tensor]:
        if self._network is None:
            raise RuntimeError("the runtime was closed")
        # PyTorch warns of arrays that must not be written, though it only reads this one.
        array = np.require(batch, dtype=np.float32, requirements=["C", "W"])
        autocast = torch.autocast(
            self._place.type, dtype=_TYPES[self.precision], enabled=self.precision != "fp32", cache_enabled=True
        )
        if self._threads is not None:
            # Counts for the thread that says it, which need not be the one that opened the runtime.
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), self._exactly():
            tensor = torch.from_numpy(array).to(self._place)
            if self._channels_last:
                tensor = tensor.contiguous(memory_format=torch.channels_last_3d)
            with autocast:
                outputs = named(self._network, tensor)
            check_sizes(self._card.name, batch.shape, outputs)
            return {name: outputs[name].float().contiguous() for name in self._card.outputs}

    def _exactly(self) -> contextlib.AbstractContextManager[None]:
        """The same bytes every time, and fp32 that is fp32: cuDNN's convolutions take TF32 unless told not to."""
        if self._place.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)

    @contextlib.contextmanager
    def _failures(self, shape: tuple[int, ...]) -> Iterator[None]:
        try:
            with self._out_of_memory():
                yield
        except RuntimeError as error:
            if self._network is None:
                raise
            text = str(error).strip().splitlines()
            raise ModelError(
                f"The model '{self._card.name}' failed on the device '{self.device}'.",
                f"An input of the shape {shape}: {(text[0] if text else type(error).__name__)[:300]}",
                "Try another device ('--device cpu'), or report it to the model's author.",
            ) from error

    @contextlib.contextmanager
    def _out_of_memory(self) -> Iterator[None]:
        """`MemoryLimitError` where memory ran out; the caller can then go on with less."""
        try:
            with memory_errors(self.device):
                yield
        except MemoryLimitError:
            self._empty_cache()
            raise

    def _empty_cache(self) -> None:
        if self._place.type == "cuda":
            torch.cuda.empty_cache()
        elif self._place.type == "mps":
            torch.mps.empty_cache()


class TorchAccumulator:
    """An `Accumulator` on the device of a `TorchRuntime`.

    Args:
        shape: Voxels (x, y, z).
        maps: K.
        device: Where it lives.
    """

    def __init__(self, shape: tuple[int, int, int], maps: int, device: torch.device) -> None:
        self._sum = torch.zeros((maps, *shape), device=device)
        self._weight = torch.zeros(shape, device=device)
        self._window: tuple[NDArray[np.float32], Tensor] | None = None

    def add(self, output: Any, positions: Sequence[Position], weight: NDArray[np.float32]) -> None:
        """See `strokeseg.runtime.base.Accumulator.add`."""
        if self._window is None or self._window[0] is not weight:
            self._window = (weight, torch.tensor(weight, dtype=torch.float32, device=self._sum.device))
        on_device = self._window[1]
        places = window_slices(self._weight.shape, weight.shape, positions)
        with torch.inference_mode():
            for window, place in zip(torch.as_tensor(output, device=self._sum.device), places, strict=True):
                self._sum[(slice(None), *place)].addcmul_(window, on_device)
                self._weight[place] += on_device

    def result(self, uncovered: float = 0.0) -> NDArray[np.float32]:
        """See `strokeseg.runtime.base.Accumulator.result`."""
        with torch.inference_mode():
            # In place: the device may have no room for a second map.
            self._sum /= self._weight
            self._sum.masked_fill_(self._weight == 0, uncovered)
            return self._sum.cpu().numpy()


def _require(device: str) -> None:
    """Refuse a device that is not there."""
    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if has_cuda() else 0
        if int(number or 0) < count:
            return
        if torch.version.cuda is None and torch.version.hip is None:
            cause = f"PyTorch {torch.__version__} is installed here in a build without CUDA."
        elif count == 0:
            cause = f"PyTorch {torch.__version__} finds no GPU: there is none, or its driver is missing or too old."
        else:
            cause = f"There are {count} GPUs, numbered from 0."
    elif kind == "mps":
        if torch.backends.mps.is_available():
            return
        cause = "This is no Mac with an Apple GPU, or PyTorch was built without it."
    else:
        return
    raise DependencyError(
        f"The device '{device}' cannot be used.",
        cause,
        "Leave --device out, or choose --device cpu; models run there, too.",
    )


def _precision(device: str, asked: str) -> tuple[str, tuple[Note, ...]]:
    if device == "cpu":
        return cpu_precision(asked, native_precisions())
    if device.startswith("cuda") and asked == "bf16":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                message = "The precision bf16 was asked for, but this GPU does not multiply in it; fp32 was used."
                return "fp32", (Note("precision_not_native", message),)
    return asked, ()
