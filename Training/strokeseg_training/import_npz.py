"""Weights of Keras from an ``.npz`` file into our networks of the same layers, by a map of names. Runs no code.

Whoever holds such a network writes its weights where Keras is installed, with any version of it::

    import numpy as np
    np.savez("weights.npz", **{getattr(w, "path", w.name): w.numpy() for w in model.weights})

A name is ``layer/kind`` (``conv3d_4/kernel``; older versions of Keras write ``conv3d_4/kernel:0``). Keras numbers
layers as they are made, and files list them in another order: the numbers count. A layer goes to ours of the same kind
and shape. Of the published size, several have the same only where they stand behind each other (the norms of a cascade)
or for each other on the next level: these go to ours in the order in which they were made.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from strokeseg.errors import InputError, ModelError
from strokeseg.networks import build, load_state
from strokeseg_training.import_keras import Imported

NETWORKS = ("mscs-net",)
"""Networks that were published in Keras and have an importer here."""
# Keras's name of a tensor to ours.
_CONVOLUTION = {"kernel": "weight", "bias": "bias"}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_NUMBERED = re.compile(r"(?:conv3d|conv3d_transpose|batch_normalization(?:_v\d+)?)(?:_(\d+))?")
# Keras's kernels are (x, y, z, in, out), of transposed convolutions (x, y, z, out, in); ours have both ends exchanged.
_KERNEL_AXES = (4, 3, 0, 1, 2)
_NEXT = "Write it again where Keras is installed; 'strokeseg-train import-keras --help' says how."

# Keras's name of a tensor to its shape there, in the order of the names.
_Form = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class _Layer:
    """A layer of the file: its name, and its tensors by their names in Keras."""

    name: str
    tensors: dict[str, NDArray[Any]]

    @property
    def number(self) -> int | None:
        """The number that Keras gave it; None where a person named it."""
        found = _NUMBERED.fullmatch(self.name.rpartition("/")[2])
        return None if found is None else int(found[1] or 0)

    @property
    def form(self) -> _Form:
        """Its tensors and their shapes."""
        return tuple(sorted((kind, tuple(t.shape)) for kind, t in self.tensors.items()))


def import_npz(path: str | Path, network: str, arguments: Mapping[str, Any] | None = None) -> Imported:
    """Read the weights of one of `NETWORKS` from a file of numpy.

    Args:
        path: What the lines above wrote.
        network: Name of our network.
        arguments: What it is built with; None: the published size.

    Returns:
        The whole state of the network, and Keras's layers to ours.

    Raises:
        InputError: There is no such file, or no importer for the network.
        ModelError: The file is no archive of numpy's, or its layers are not those of the network.
    """
    if network not in NETWORKS:
        raise InputError(
            f"Weights in an .npz file cannot be imported into '{network}'.",
            "There are importers for: " + ", ".join(NETWORKS) + ".",
            "Give --network one of them.",
        )
    ours = build(network, **(arguments or {}))
    place = Path(path)
    if not place.is_file():
        raise InputError(
            f"There is no file '{place.name}'.", f"'{place}' is no file.", "Give the path of an .npz file."
        )
    pairs = _matched(_layers(place), ours, place)
    state = dict(ours.state_dict())
    for layer, name in pairs:
        state.update(_ours(layer, name))
    load_state(ours, state)
    order = list(dict(ours.named_modules()))
    names = dict(sorted(((layer.name, name) for layer, name in pairs), key=lambda pair: order.index(pair[1])))
    return Imported({name: tensor.clone() for name, tensor in ours.state_dict().items()}, names)


def _layers(place: Path) -> list[_Layer]:
    """The layers of the file, in its order."""
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in _arrays(place).items():
        layer, _, kind = name.partition(":")[0].rpartition("/")
        if not layer or kind not in {**_CONVOLUTION, **_NORM}:
            raise _other(place, f"It has '{name}', which belongs to neither a convolution nor a norm.")
        if array.dtype.kind != "f" or kind in layers.setdefault(layer, {}):
            raise _unreadable(place, f"It has '{name}' twice, or not as numbers ({array.dtype}).")
        layers[layer][kind] = array
    return [_Layer(name, tensors) for name, tensors in layers.items()]


def _arrays(place: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file by name; objects, which could run code, are refused."""
    try:
        archive = np.load(place, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise _unreadable(place, "It holds one array instead of many by name.")
        with archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _unreadable(place, f"It is no .npz file of numbers, or it is damaged: {lines[0][:200]}") from error


def _matched(layers: list[_Layer], network: nn.Module, place: Path) -> list[tuple[_Layer, str]]:
    """Layers of the file and the names of ours to which they go."""
    ours: dict[_Form, list[str]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d):
            ours.setdefault(_form(module), []).append(name)
    theirs: dict[_Form, list[_Layer]] = {}
    for layer in layers:
        theirs.setdefault(layer.form, []).append(layer)
    for form in [*ours, *theirs]:
        have, need = theirs.get(form, []), ours.get(form, [])
        if len(have) != len(need):
            said = ", ".join(f"{kind} {'x'.join(map(str, shape))}" for kind, shape in form)
            example = f"'{have[0].name}'" if have else f"ours is '{need[0]}'"
            raise _other(place, f"It has {len(have)} layers with {said}, the network {len(need)} ({example}).")
    return [pair for form, need in ours.items() for pair in zip(_as_made(theirs[form]), need, strict=True)]


def _form(module: nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d) -> _Form:
    """What one of our layers looks like in Keras."""
    if isinstance(module, nn.BatchNorm3d):
        # A factor that is not trained is none there.
        kinds = [kind for kind in _NORM if kind != "gamma" or module.weight.requires_grad]
        return tuple(sorted((kind, (module.num_features,)) for kind in kinds))
    shape = module.weight.shape
    # Back from our order of axes.
    kernel = tuple(shape[_KERNEL_AXES.index(axis)] for axis in range(len(shape)))
    bias = [("bias", (module.out_channels,))] if module.bias is not None else []
    return tuple(sorted([("kernel", kernel), *bias]))


def _as_made(layers: list[_Layer]) -> list[_Layer]:
    """Layers in the order in which they were made; the file's own where a person named one of them."""
    if any(layer.number is None for layer in layers):
        return layers
    return sorted(layers, key=lambda layer: layer.number or 0)


def _ours(layer: _Layer, name: str) -> dict[str, Tensor]:
    """A layer's tensors under our names, in our order of axes."""
    result = {}
    for kind, array in layer.tensors.items():
        turned = array.transpose(_KERNEL_AXES) if kind == "kernel" else array
        own = (_CONVOLUTION if "kernel" in layer.tensors else _NORM)[kind]
        result[f"{name}.{own}"] = torch.from_numpy(np.ascontiguousarray(turned, dtype=np.float32))
    return result


def _unreadable(place: Path, cause: str) -> ModelError:
    return ModelError(f"The weights '{place.name}' cannot be read.", cause, _NEXT)


def _other(place: Path, cause: str) -> ModelError:
    return ModelError(
        f"The weights '{place.name}' are those of another network.",
        cause,
        "Give --network the name of the network that they were trained with: " + ", ".join(NETWORKS) + ".",
    )
