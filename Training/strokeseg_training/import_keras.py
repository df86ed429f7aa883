"""Weights that Keras saved as ``.h5`` into our networks of the same layers, by a map of names. Runs no code.

In such a file every layer is a group with its tensors, and the groups' names are the layers'. Keras numbers layers as
they are made (``conv2d``, ``conv2d_1``, ...), and the file lists them in another order: the numbers count. Convolutions
go to ours in the order in which they are made, those of each kernel size by themselves, so that it does not matter
whether a shortcut was made before or after what it goes around; the n-th norm belongs to the n-th convolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from strokeseg.errors import InputError, ModelError
from strokeseg.networks import build, load_state

NETWORKS = ("atlas-unet", "atlas-segnet", "atlas-resunet")
"""Networks that were published in Keras."""
# Keras's name of a tensor to ours.
_TENSORS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NUMBERED = re.compile(r"(?:conv2d|conv2d_transpose|batch_normalization(?:_v\d+)?)(?:_(\d+))?")
# Keras's kernels are (x, y, in, out), of transposed convolutions (x, y, out, in); ours have both ends exchanged.
_KERNEL_AXES = (3, 2, 0, 1)


@dataclass(frozen=True)
class Imported:
    """What was carried over.

    Attributes:
        state: Our names to tensors: the whole state of the network.
        names: Keras's layer to our layer, in the order of ours.
    """

    state: dict[str, Tensor]
    names: dict[str, str]


@dataclass(frozen=True)
class _Layer:
    """A layer of the file: its name, and its tensors by their names in Keras."""

    name: str
    tensors: dict[str, Any]

    @property
    def number(self) -> int | None:
        """The number that Keras gave it; None where a person named it."""
        found = _NUMBERED.fullmatch(self.name)
        return None if found is None else int(found[1] or 0)


def import_keras(path: str | Path, network: str, arguments: Mapping[str, Any] | None = None) -> Imported:
    """Read the weights of one of `NETWORKS` from a file of Keras.

    Args:
        path: What ``model.save_weights("....h5")`` or ``model.save("....h5")`` wrote.
        network: Name of our network.
        arguments: What it is built with; None: the published size.

    Raises:
        InputError: There is no such file, or no importer for the network.
        ModelError: The file is no HDF5 file of Keras, or its layers are not those of the network.
    """
    if network not in NETWORKS:
        raise InputError(
            f"Weights of Keras cannot be imported into '{network}'.",
            "These networks were published in Keras: " + ", ".join(NETWORKS) + ".",
            "Give --network one of them.",
        )
    ours = build(network, **(arguments or {}))
    place = Path(path)
    if not place.is_file():
        raise InputError(f"There is no file '{place.name}'.", f"'{place}' is no file.", "Give the path of an .h5 file.")
    try:
        with h5py.File(place, "r") as file:
            pairs = _matched(_layers(file, place), ours, place)
            state = dict(ours.state_dict())
            for layer, name in pairs:
                _take(layer, name, state, place)
    except OSError as error:
        raise _unreadable(place, f"It is no HDF5 file, or it is damaged: {str(error).strip()[:200]}.") from error
    load_state(ours, state)
    order = list(dict(ours.named_modules()))
    names = dict(sorted(((layer.name, name) for layer, name in pairs), key=lambda pair: order.index(pair[1])))
    return Imported({name: tensor.clone() for name, tensor in ours.state_dict().items()}, names)


def _layers(file: h5py.File, place: Path) -> list[_Layer]:
    """The layers that have weights, in the file's order."""
    root = _group(file, "model_weights", place) if "model_weights" in file else file
    if "layer_names" not in root.attrs:
        raise _unreadable(place, "It has no list of layers ('layer_names').")
    layers = []
    for name in _texts(root.attrs["layer_names"]):
        group = _group(root, name, place)
        tensors = {}
        for full in _texts(group.attrs.get("weight_names", [])):
            tensors[full.rpartition("/")[2].partition(":")[0]] = _dataset(group, full, place)
        if tensors:
            layers.append(_Layer(name, tensors))
    return layers


def _group(parent: h5py.Group, name: str, place: Path) -> h5py.Group:
    found = _inside(parent, name)
    if not isinstance(found, h5py.Group):
        raise _unreadable(place, f"It lists the layer '{name}' and does not hold it.")
    return found


def _dataset(parent: h5py.Group, name: str, place: Path) -> h5py.Dataset:
    found = _inside(parent, name)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or found.dtype.kind != "f":
        raise _unreadable(place, f"It lists the weights '{name}' and does not hold them as numbers.")
    return found


def _inside(parent: h5py.Group, name: str) -> Any:
    """What lies in the file itself under a path; None where there is nothing, or a link to another file."""
    found: Any = parent
    for part in name.split("/"):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) and part in found else None
        if not isinstance(link, h5py.HardLink):
            return None
        found = found[part]
    return found


def _texts(value: Any) -> list[str]:
    return [text.decode("utf-8") if isinstance(text, bytes) else str(text) for text in value]


def _matched(layers: list[_Layer], network: nn.Module, place: Path) -> list[tuple[_Layer, str]]:
    """Layers of the file and the names of ours to which they go."""
    convolutions = _as_made([layer for layer in layers if "kernel" in layer.tensors])
    norms = _as_made([layer for layer in layers if "moving_mean" in layer.tensors])
    others = [layer.name for layer in layers if layer not in convolutions and layer not in norms]
    if others:
        raise _other(place, f"It has the layer '{others[0]}', which is neither a convolution nor a norm.")
    ours = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    normed = _norms_of(network)
    if (len(convolutions), len(norms)) != (len(ours), len(normed)):
        seen = f"It has {len(convolutions)} convolutions and {len(norms)} norms"
        raise _other(place, f"{seen}, the network {len(ours)} and {len(normed)}.")
    waiting: dict[tuple[int, ...], list[str]] = {}
    for name, module in ours:
        waiting.setdefault(tuple(module.kernel_size), []).append(name)
    pairs, in_order = [], []
    for layer in convolutions:
        size = tuple(layer.tensors["kernel"].shape[:2])
        if not waiting.get(size):
            raise _other(place, f"'{layer.name}' has a kernel of {size}, and no layer of the network is left for it.")
        in_order.append(waiting[size].pop(0))
        pairs.append((layer, in_order[-1]))
    # The last convolution has no norm; those that have are made in the file's order.
    with_norm = [normed[name] for name in in_order if name in normed]
    return pairs + list(zip(norms, with_norm, strict=True))


def _as_made(layers: list[_Layer]) -> list[_Layer]:
    """Layers in the order in which they were made; the file's own where a person named them.

    Transposed convolutions have numbers of their own; only those of one kernel size are compared.
    """
    numbers = [layer.number for layer in layers]
    if any(number is None for number in numbers):
        return layers
    return sorted(layers, key=lambda layer: layer.number or 0)


def _norms_of(network: nn.Module) -> dict[str, str]:
    """Name of a convolution to the name of the norm that follows it, from the names of both."""
    modules = dict(network.named_modules())
    found = {}
    for name in modules:
        candidates = (f"{name}_norm", f"{name.removesuffix('conv')}norm" if name.endswith(".conv") else "")
        for norm in candidates:
            if isinstance(modules.get(norm), nn.BatchNorm2d):
                found[name] = norm
    return found


def _take(layer: _Layer, name: str, state: dict[str, Tensor], place: Path) -> None:
    """Put a layer's tensors into the state, in our order of axes."""
    for kind, stored in layer.tensors.items():
        key = f"{name}.{_TENSORS.get(kind, kind)}"
        if key not in state:
            raise _other(place, f"'{layer.name}' has '{kind}', which the layer '{name}' does not have.")
        axes = _KERNEL_AXES if kind == "kernel" else tuple(range(len(stored.shape)))
        shape = tuple(stored.shape[a] for a in axes) if len(axes) == len(stored.shape) else tuple(stored.shape)
        if shape != tuple(state[key].shape):
            expected = tuple(state[key].shape)
            raise _other(place, f"'{layer.name}/{kind}' is {shape} in our order of axes, '{key}' is {expected}.")
        state[key] = torch.from_numpy(stored[()].transpose(axes)).float().contiguous()
    needed = {key for key in state if key.startswith(f"{name}.") and not key.endswith("num_batches_tracked")}
    missing = sorted(needed - {f"{name}.{_TENSORS[kind]}" for kind in layer.tensors})
    if missing:
        raise _other(place, f"'{layer.name}' has nothing for '{missing[0]}'.")


def _unreadable(place: Path, cause: str) -> ModelError:
    return ModelError(
        f"The weights '{place.name}' cannot be read.",
        cause,
        "Save them again from Keras 2: model.save_weights('weights.h5').",
    )


def _other(place: Path, cause: str) -> ModelError:
    return ModelError(
        f"The weights '{place.name}' are those of another network.",
        cause,
        "Give --network the name of the network that they were trained with: " + ", ".join(NETWORKS) + ".",
    )
