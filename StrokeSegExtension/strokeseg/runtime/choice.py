"""`open_runtime`: runtime and device for a model; `check_choice`: what can be refused before a library is imported."""

from __future__ import annotations

import re
from importlib import metadata, util
from typing import NoReturn

from strokeseg.errors import DependencyError, ModelError
from strokeseg.models import ModelCard
from strokeseg.runtime.base import PRECISIONS, Note, Runtime

RUNTIMES = ("auto", "openvino", "torch")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")
_INSTALL_TORCH = 'Install it with: python -m pip install "torch>=2.4,!=2.9.0,!=2.9.1" "monai>=1.4"'
_INSTALL_OPENVINO = 'Install it with: python -m pip install "openvino>=2025.4"'
_ON_THE_CPU = "Leave --device out, or choose --device cpu."


def open_runtime(
    card: ModelCard,
    device: str = "auto",
    *,
    runtime: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
) -> Runtime:
    """The runtime for a model, loaded and ready.

    OpenVINO runs what has a graph on the CPU, PyTorch everything on GPUs, what has no graph, and what has one where
    OpenVINO is not installed. A bare graph runs only by OpenVINO, a rule by itself; both only on the CPU.

    Args:
        card: The model.
        device: ``cpu``, ``cuda:N``, ``mps``, or ``auto``: an NVIDIA GPU where PyTorch can use it for this model, else
            the CPU.
        runtime: ``auto``, ``openvino`` or ``torch``.
        precision: ``fp32``, ``bf16`` or ``fp16``, see `strokeseg.runtime.precision`.
        threads: On the CPU; None: `strokeseg.runtime.threads.usable_threads`.

    Raises:
        DependencyError: A device or library is not there, or the model cannot run on this device.
        ModelError: The model is damaged, or cannot run by this runtime.
        MemoryLimitError: It does not fit into the memory.
        InputError: ``$STROKESEG_THREADS`` is no number.
    """
    check_choice(card, device, runtime=runtime, precision=precision)
    if card.runtime == "threshold":
        from strokeseg.runtime.threshold import ThresholdRuntime  # noqa: PLC0415  each is loaded when asked for

        return ThresholdRuntime(card)
    if _needs_openvino(card, runtime):
        return _openvino(card, precision, threads, fall_back=False)
    if _is_gpu(device):
        return _torch(card, "cuda:0" if device == "cuda" else device, precision, threads)
    if device == "auto" and _torch_has_gpu():
        return _torch(card, "cuda:0", precision, threads)
    if runtime == "torch" or card.runtime == "torch":
        return _torch(card, "cpu", precision, threads)
    return _openvino(card, precision, threads, fall_back=True)


def check_choice(card: ModelCard, device: str = "auto", *, runtime: str = "auto", precision: str = "fp32") -> None:
    """Refuse what a model cannot be asked for, whatever is installed and whatever its files hold.

    Args:
        card: The model.
        device: As `open_runtime` takes it.
        runtime: As `open_runtime` takes it.
        precision: As `open_runtime` takes it.

    Raises:
        DependencyError: There is no such device, runtime or precision, or the model cannot run on this device.
        ModelError: The model cannot run by this runtime.
    """
    _check_words(device, runtime, precision)
    if card.runtime == "threshold":
        _check_rule(card, device, runtime, precision)
    elif _needs_openvino(card, runtime):
        if _is_gpu(device):
            _refuse_gpu(card, device)
        if runtime == "torch":
            raise ModelError(
                f"The model '{card.name}' cannot be run by PyTorch.",
                "It is a bare graph: its network is not known by name.",
                "Leave --runtime out: OpenVINO runs it on the CPU.",
            )
        _require_graph(card)


def _needs_openvino(card: ModelCard, runtime: str) -> bool:
    return runtime == "openvino" or card.network == "graph"


def _is_gpu(device: str) -> bool:
    return device not in ("auto", "cpu")


def _check_words(device: str, runtime: str, precision: str) -> None:
    for option, value, choices in (("runtime", runtime, RUNTIMES), ("precision", precision, PRECISIONS)):
        if value not in choices:
            raise DependencyError(
                f"There is no {option} '{value}'.", f"These exist: {', '.join(choices)}.", f"Leave --{option} out."
            )
    if not _DEVICE.fullmatch(device):
        raise DependencyError(
            f"There is no device '{device}'.", "Devices are called auto, cpu, cuda:0, cuda:1, ..., mps.", _ON_THE_CPU
        )


def _check_rule(card: ModelCard, device: str, runtime: str, precision: str) -> None:
    if _is_gpu(device):
        raise DependencyError(
            f"The device '{device}' cannot be used.",
            f"The model '{card.name}' is a rule without network; it runs on the CPU.",
            "Leave --device out, or choose a model with a network.",
        )
    if runtime != "auto" or precision != "fp32":
        option = f"the runtime '{runtime}'" if runtime != "auto" else f"the precision '{precision}'"
        raise ModelError(
            f"The model '{card.name}' cannot be run as asked.",
            f"It is a rule without network; {option} does not apply to it.",
            "Leave --runtime and --precision out, or choose a model with a network.",
        )


def _refuse_gpu(card: ModelCard, device: str) -> NoReturn:
    reason = (
        f"The model '{card.name}' is a bare graph, which OpenVINO runs on the CPU; PyTorch, which runs GPUs, does not "
        "know its network."
        if card.network == "graph"
        else "The runtime 'openvino' runs models on the CPU; 'torch' runs them on GPUs."
    )
    raise DependencyError(f"The device '{device}' cannot be used.", reason, _ON_THE_CPU)


def _require_graph(card: ModelCard) -> None:
    if card.runtime == "torch":
        reason = card.runtime_reason or "its card gives no reason."
        raise ModelError(
            f"The model '{card.name}' cannot be run by OpenVINO.",
            f"It has no graph: {reason}",
            "Leave --runtime out; PyTorch runs it.",
        )


def _openvino(card: ModelCard, precision: str, threads: int | None, *, fall_back: bool) -> Runtime:
    try:
        from strokeseg.runtime.openvino import OpenVinoRuntime  # noqa: PLC0415
    except ImportError as error:
        if fall_back and util.find_spec("torch") is not None:
            note = Note("openvino_missing", f"OpenVINO is not installed ({error}); PyTorch was used, which is slower.")
            return _torch(card, "cpu", precision, threads, note)
        raise DependencyError(
            f"The model '{card.name}' cannot be run here.",
            f"It needs OpenVINO, which cannot be imported: {error}.",
            _INSTALL_OPENVINO,
        ) from error
    from strokeseg.runtime.cache import CompiledCache, cache_folder, cache_is_wanted  # noqa: PLC0415

    cache = CompiledCache(cache_folder()) if cache_is_wanted() else None
    return OpenVinoRuntime(card, precision, threads, cache)


def _torch(card: ModelCard, device: str, precision: str, threads: int | None, *notes: Note) -> Runtime:
    try:
        from strokeseg.runtime.pytorch import TorchRuntime  # noqa: PLC0415
    except ImportError as error:
        if device.startswith("cuda") and not _nvidia_gpu_is_there():
            cause = "No NVIDIA GPU was found (nvidia-smi does not answer), and PyTorch is not installed."
        else:
            why = f"the device '{device}'" if device != "cpu" else f"a model without graph ({card.runtime_reason})"
            cause = f"PyTorch is needed for {why} and cannot be imported: {error}."
        raise DependencyError(f"The model '{card.name}' cannot be run here.", cause, _INSTALL_TORCH) from error
    opened = TorchRuntime(card, device, precision, threads)
    opened.notes = (*opened.notes, *notes)
    return opened


def _torch_has_gpu() -> bool:
    """Whether PyTorch can use an NVIDIA GPU; PyTorch, which takes seconds, is only imported where that can be."""
    if util.find_spec("torch") is None or not _nvidia_gpu_is_there():
        return False
    try:
        if metadata.version("torch").endswith("+cpu"):
            return False
        from strokeseg.runtime.pytorch import has_cuda  # noqa: PLC0415
    except ImportError:
        # Also PackageNotFoundError. A PyTorch that does not load is no reason to refuse the CPU.
        return False
    return has_cuda()


def _nvidia_gpu_is_there() -> bool:
    from strokeseg.runtime.devices import nvidia_gpus  # noqa: PLC0415  psutil, not needed at start

    return bool(nvidia_gpus())
