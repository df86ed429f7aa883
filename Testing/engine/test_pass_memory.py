"""What is planned for networks whose widest maps are coarser than the input, beside the largest layer they have."""

from __future__ import annotations

from typing import Any

import network_phantom as phantom
import pytest

torch = pytest.importorskip("torch", reason="maps are counted by PyTorch, which is not installed")

from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.predict.memory import pass_bytes  # noqa: E402

SIDE = 32
NARROW = [("mscs-net", {"channels": [8, 8, 8, 8], "units": [4, 4, 4, 4]}), ("segformer3d", {"decoder_width": 64})]


def largest_layer(network: str, arguments: dict[str, Any]) -> float:
    """Most bytes a voxel of the input that one layer reads and writes."""
    sizes = []

    def count(layer: Any, given: Any, made: Any) -> None:
        sizes.append(4 * (given[0].numel() + made.numel()) / SIDE**3)

    # Without values: shapes cost no time.
    with torch.device("meta"):
        built = build(network, **arguments).eval()
        for module in built.modules():
            if not list(module.children()):
                module.register_forward_hook(count)
        built(torch.zeros(1, form_of(built).in_channels, SIDE, SIDE, SIDE))
    return max(sizes)


def a_voxel(network: str, arguments: dict[str, Any], runtime: str) -> float:
    """Bytes a voxel of the input that are planned for."""
    used = phantom.card(network=network, network_arguments=arguments)
    return (pass_bytes(used, runtime, 10**6) - pass_bytes(used, runtime, 0)) / 10**6


@pytest.mark.parametrize(("network", "arguments"), [("mscs-net", {}), ("segformer3d", {}), *NARROW])
def test_the_plan_of_a_network_with_coarse_maps_is_some_of_its_largest_layers(
    network: str, arguments: dict[str, Any]
) -> None:
    layer = largest_layer(network, arguments)
    for runtime in ("openvino", "torch"):
        assert 2 * layer < a_voxel(network, arguments, runtime) < 10 * layer


def test_a_network_of_unknown_width_is_planned_for_as_a_large_one() -> None:
    assert a_voxel("segformer3d", {}, "torch") * 10 < a_voxel("graph", {}, "torch")
