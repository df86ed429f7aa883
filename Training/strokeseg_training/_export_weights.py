"""Weights on their way from a checkpoint to ``weights.safetensors``: read without running code, rounded to halves."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from strokeseg.errors import InputError, ModelError
from strokeseg.networks.state import shared_names

# Where training programs keep the weights in a checkpoint, the best first: averaged weights (EMA) are what is used.
_PLACES = ("ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "network", "net")
_LARGEST_HALF = 65504.0


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of PyTorch or a safetensors file, on the CPU.

    Args:
        path: A state dict, or a checkpoint that has one under `_PLACES`; averaged weights are preferred.

    Raises:
        InputError: There is no such file.
        ModelError: The file is damaged, holds code, or holds no weights.
    """
    if not path.is_file():
        raise InputError(
            f"There is no checkpoint '{path.name}'.", f"'{path}' is no file.", "Give the path of a checkpoint file."
        )
    try:
        data = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"The checkpoint '{path.name}' was refused.",
            "It is no PyTorch checkpoint, or it holds objects beside tensors and numbers, which could run code.",
            "Save the weights alone: torch.save(network.state_dict(), file). An ONNX file needs 'network': 'graph'.",
        ) from error
    except (EOFError, OSError, RuntimeError, SafetensorError, UnicodeDecodeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"The checkpoint '{path.name}' cannot be read.",
            f"It is damaged or of another kind: {lines[0][:200]}",
            "Copy it again, or save the weights with torch.save(network.state_dict(), file).",
        ) from error
    return _weights_in(data, path)


def _weights_in(data: Any, path: Path) -> dict[str, Tensor]:
    candidates = [data]
    if isinstance(data, Mapping):
        candidates = [*(data[p] for p in _PLACES if p in data), data]
    for found in candidates:
        if isinstance(found, Mapping) and found and all(isinstance(v, Tensor) for v in found.values()):
            return {str(name): tensor for name, tensor in found.items()}
    inside = ", ".join(f"'{k}'" for k in list(data)[:8]) if isinstance(data, Mapping) else type(data).__name__
    raise ModelError(
        f"The checkpoint '{path.name}' holds no weights.",
        f"It holds {inside or 'nothing'}; weights are looked for at the top and under " + ", ".join(_PLACES) + ".",
        "Save the weights with torch.save(network.state_dict(), file).",
    )


def without_prefix(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The part of a checkpoint that belongs to a network.

    Training programs keep the network as a part of something larger, and its weights under ``network.``, ``model.``,
    ``module.`` or the like, beside those of a loss.
    """
    own = set(network.state_dict())
    prefixes = {""} | {key[: -len(name)] for key in state for name in own if key.endswith("." + name)}
    best = max(sorted(prefixes), key=lambda p: sum(p + name in state for name in own))
    return {key.removeprefix(best): tensor for key, tensor in state.items() if key.startswith(best)}


def half_weights(state: Mapping[str, Tensor]) -> bytes:
    """The content of ``weights.safetensors``: floats rounded to half precision, a shared tensor once.

    Args:
        state: Name to tensor.

    Raises:
        ModelError: A value is no finite number or does not fit into half precision.
    """
    tensors = {}
    for name, *_ in shared_names(state):
        tensor = state[name].detach().cpu()
        if tensor.is_floating_point():
            _refuse_what_is_no_half(name, tensor)
            tensor = tensor.half()
        tensors[name] = tensor.contiguous().clone()
    return save(tensors)


def _refuse_what_is_no_half(name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise ModelError(
            "The weights are damaged.",
            f"'{name}' holds values that are no finite numbers.",
            "Use another checkpoint of the same training.",
        )
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if largest > _LARGEST_HALF:
        raise ModelError(
            "The weights cannot be stored.",
            f"'{name}' reaches {largest:.6g}; weights are kept in half precision, which ends at {_LARGEST_HALF:g}.",
            "Train with weight decay or normalisation, or fold the scale into another layer.",
        )


def header_of(weights: bytes) -> tuple[dict[str, dict[str, Any]], int]:
    """Name to ``dtype``, ``shape``, ``data_offsets`` of a safetensors file, and where its data begin, in bytes."""
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, 8 + length
