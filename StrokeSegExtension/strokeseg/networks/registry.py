"""Names of networks, and how one is built from a name and plain arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from strokeseg.errors import DependencyError, ModelError
from strokeseg.networks.monai_classes import MONAI_CLASSES

if TYPE_CHECKING:
    from torch import nn

# Name to module and class.
_OURS = {
    "atlas-resunet": ("strokeseg.networks.atlas_resunet", "AtlasResUNet"),
    "atlas-segnet": ("strokeseg.networks.atlas_segnet", "AtlasSegNet"),
    "atlas-unet": ("strokeseg.networks.atlas_unet", "AtlasUNet"),
    "attention-unet-3d": ("strokeseg.networks.attention_unet_3d", "AttentionUNet3D"),
    "lesion-net": ("strokeseg.networks.lesion_net", "LesionNet"),
    "mscs-net": ("strokeseg.networks.mscs_net", "MSCSNet"),
    "residual-unet": ("strokeseg.networks.residual_unet", "ResidualUNet"),
    "segformer3d": ("strokeseg.networks.segformer3d", "SegFormer3D"),
}
_MONAI = "monai:"


def names() -> list[str]:
    """Names of all networks: ours, then ``monai:Class``."""
    return [*sorted(_OURS), *(_MONAI + c for c in sorted(MONAI_CLASSES))]


def build(name: str, **arguments: Any) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: One of `names`.
        arguments: What its class takes, as JSON has it (lists become tuples); without any, the published or a usual
            size.

    Returns:
        The network in training mode; its attribute ``form`` is a `NetworkForm`. Weights are drawn from torch's own
        random numbers: the same seed gives the same network.

    Raises:
        ModelError: There is no such network, or an argument is unknown, missing or not usable.
        DependencyError: PyTorch, or a library that the network needs, is not installed.
    """
    if name not in names():
        near = get_close_matches(name, names(), n=1, cutoff=0.4)
        raise ModelError(
            f"There is no network '{name}'.",
            "These networks can be built: " + ", ".join(names()) + ".",
            f"Did you mean '{near[0]}'?" if near else "Choose one of them, or use a bare graph ('network': 'graph').",
        )
    plain = {key: _plain(value, name, key) for key, value in arguments.items()}
    if name.startswith(_MONAI):
        kind = name.removeprefix(_MONAI)
        nets = _imported("monai.networks.nets", "MONAI", name)
        if not plain:
            plain = {key: _plain(value, name, key) for key, value in MONAI_CLASSES[kind].usual.items()}
        for library in MONAI_CLASSES[kind].needs:
            _imported(library, f"'{library}'", name)
        return _made(getattr(nets, kind), plain, name, import_module("strokeseg.networks.monai_networks").fit_to_engine)
    module, kind = _OURS[name]
    _imported("torch", "PyTorch", name)
    return _made(getattr(import_module(module), kind), plain, name)


def _imported(module: str, title: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"The network '{name}' cannot be built.",
            f"{title} is not installed here: {error}.",
            "Install what is missing; 'strokeseg[torch]' brings PyTorch and MONAI. A model with a graph needs neither.",
        ) from error


def _made(
    kind: Callable[..., Any],
    arguments: Mapping[str, Any],
    name: str,
    finish: Callable[[Any, Mapping[str, Any]], None] = lambda *_: None,
) -> Any:
    """Call the class after comparing the arguments with its signature, then `finish` with network and arguments."""
    known = inspect.signature(kind).parameters
    for key in arguments:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ModelError(
                f"The network '{name}' cannot be built.",
                f"It has no argument '{key}'; it takes " + ", ".join(known) + ".",
                f"Did you mean '{near[0]}'?" if near else "Correct 'network_arguments' in the card.",
            )
    missing = [key for key, p in known.items() if p.default is inspect.Parameter.empty and key not in arguments]
    if missing:
        raise ModelError(
            f"The network '{name}' cannot be built.",
            "Arguments are missing: " + ", ".join(missing) + ".",
            "Add them to 'network_arguments' in the card.",
        )
    try:
        network = kind(**arguments)
        finish(network, arguments)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ModelError(
            f"The network '{name}' cannot be built.",
            f"It refuses its arguments ({shown}): {_first_line(error)}",
            "Correct 'network_arguments' in the card.",
        ) from error
    return network


def _plain(value: Any, name: str, key: str) -> Any:
    """An argument as JSON can hold it, lists as tuples; anything else could be code."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(_plain(v, name, key) for v in value)
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: _plain(v, name, key) for k, v in value.items()}
    raise ModelError(
        f"The network '{name}' cannot be built.",
        f"The argument '{key}' holds a '{type(value).__name__}'.",
        "Give numbers, texts, true, false, null, or lists and objects of these.",
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300].rstrip(".") + "."
