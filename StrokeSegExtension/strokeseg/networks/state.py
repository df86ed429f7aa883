"""Weights into a network: all of them, in the right shapes, all numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from strokeseg.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

_NEXT = "Use the weights that belong to this network, or correct 'network' and 'network_arguments' in the card."


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy weights into a network, strictly; a tensor that the network holds under several names is needed once.

    Args:
        network: Receives the weights, converted to its own precision.
        state: Name to tensor, as a state dict.

    Raises:
        ModelError: A weight is missing, unknown, of another shape, or not a number; nothing was copied then.
    """
    own = network.state_dict()
    title = "The weights do not fit the network."
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise ModelError(title, f"The network has no {_some(unknown)}.", _NEXT)
    missing = [names[0] for names in shared_names(own) if not set(names) & set(state)]
    if missing:
        raise ModelError(title, f"The weights have no {_some(missing)}.", _NEXT)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                title, f"'{name}' has the shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}.", _NEXT
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                "The weights are damaged.",
                f"'{name}' holds values that are no finite numbers.",
                "Use another checkpoint of the same training.",
            )
    network.load_state_dict(dict(state), strict=False)


def shared_names(state: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of a state dict in groups that share one tensor, in the order of the state dict.

    MONAI's DynUNet, for one, registers the same block under several names.
    """
    groups: dict[object, list[str]] = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        groups.setdefault(place if tensor.numel() else name, []).append(name)
    return list(groups.values())


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
