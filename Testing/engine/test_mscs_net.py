"""MSCS-Net: its published tables of counts and cost, and a tiny one against an implementation in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from built_networks import lesion_logits_of_both, shape_only  # noqa: E402
from torch import nn  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.networks.counting import cost, parameters  # noqa: E402
from strokeseg.networks.keras_layers_3d import SameConv3d, batch_norm_3d  # noqa: E402
from strokeseg.networks.mscs_net_blocks import DualAttention, PooledMaps, StridedConv  # noqa: E402

Array = NDArray[np.float64]
CROP = (1, 2, 192, 192, 16)
# No two levels alike; the widths of the cascades are 5, 6, 8 and 10, a fifth of their channels 3, 3, 4 and 6.
SMALL: dict[str, Any] = {
    "channels": [3, 4, 5, 6],
    "units": [3, 4, 5, 6],
    "pooled": 3,
    "decoder_channels": [6, 5, 4, 3, 2],
}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return build("mscs-net", **{**SMALL, **changes})


def filled(seed: int = 0, **changes: Any) -> Any:
    """A small network in evaluation mode whose norms, biases and remembered values all do something."""
    network = small(seed, **changes)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                if module.weight.requires_grad:
                    module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.3)
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2.0)
            elif isinstance(module, SameConv3d | nn.ConvTranspose3d) and module.bias is not None:
                module.bias.normal_(std=0.3)
    return network.eval()


def in_keras(*modules: Any) -> int:
    """Parameters as Keras counts them: no factors that are not trained, and what norms remember."""
    buffers = [b for m in modules for n, b in m.named_buffers() if n.endswith(("_mean", "_var"))]
    return sum(parameters(m, trainable=True) for m in modules) + sum(b.numel() for b in buffers)


# --- the published tables


def test_it_has_the_published_number_of_parameters() -> None:
    network = shape_only("mscs-net")
    assert parameters(network, trainable=True) == 37_057_656
    assert parameters(network) == 37_060_044
    assert in_keras(network) == 37_067_892
    assert in_keras(network) - parameters(network, trainable=True) == 10_236


def test_every_block_has_the_parameters_of_the_table() -> None:
    network = shape_only("mscs-net")
    convolutions = [in_keras(b.conv) for b in network.down]
    assert convolutions == [1_760, 67_424, 274_816, 1_099_136]
    assert [in_keras(b.norm) for b in network.down] == [128, 128, 256, 512]
    assert [in_keras(b) for b in network.scales] == [344_596, 1_377_185, 5_505_652, 22_220_129]
    assert in_keras(network.pooling) == 1_218_560
    assert [in_keras(b.first) for b in network.merge] == [3_981_440, 221_248, 55_328, 20_752, 2_168]
    assert [in_keras(b.second) for b in network.merge] == [442_496, 110_656, 27_680, 6_928, 1_736]
    assert [in_keras(up) for up in network.up] == [65_600, 16_416, 4_112, 1_032]
    assert in_keras(network.head) == 18


def test_every_node_has_the_shape_of_the_table_and_skips_carry_what_went_into_the_scales() -> None:
    network = shape_only("mscs-net")
    found: dict[str, list[tuple[int, ...]]] = {}
    for name, group in {"down": network.down, "scales": network.scales, "merge": network.merge}.items():
        found[name] = []
        for block in group:
            block.register_forward_hook(lambda _, __, out, to=found[name]: to.append(tuple(out.shape[1:])))
    cost(network, CROP)
    grids = [(96, 96, 8), (48, 48, 4), (24, 24, 2), (12, 12, 1)]
    assert found["down"] == [(c, *g) for c, g in zip((32, 32, 64, 128), grids, strict=True)]
    assert found["scales"] == [(c, *g) for c, g in zip((78, 159, 318, 639), grids, strict=True)]
    finer = [*grids[::-1], (192, 192, 16)]
    assert found["merge"] == [(c, *g) for c, g in zip((128, 64, 32, 16, 8), finer, strict=True)]
    assert [b.first.in_channels for b in network.merge] == [1152, 128, 64, 48, 10]
    attended = shape_only("mscs-net", attended_skips=True)
    assert [b.first.in_channels for b in attended.merge] == [1024 + 639, 64 + 318, 32 + 159, 16 + 78, 8 + 2]
    assert [b.attention.squeeze.out_channels for b in network.scales] == [15, 31, 63, 127]


def test_a_pass_costs_what_was_published_most_of_it_in_the_largest_kernels() -> None:
    network = shape_only("mscs-net")
    total = cost(network, CROP).total
    assert total == pytest.approx(54.9e9, rel=0.01)
    largest = 0
    for scale, voxels in zip(network.scales, (96 * 96 * 8, 48 * 48 * 4, 24 * 24 * 2, 12 * 12), strict=True):
        largest += voxels * parameters(scale.cascade[2].conv)
    assert largest / total == pytest.approx(0.59, abs=0.01)


# --- Keras's layers by hand


def test_a_stride_of_two_pads_nothing_before_and_one_after() -> None:
    layer = SameConv3d(1, 1, stride=2)
    volume = np.arange(64.0).reshape(4, 4, 4)
    kernel = np.arange(1.0, 28.0).reshape(3, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel))
        layer.bias.fill_(0.5)
        found = layer(torch.from_numpy(volume).float()[None, None])[0, 0].numpy()
    padded = np.pad(volume, ((0, 1),) * 3)
    expected = np.empty((2, 2, 2))
    for x, y, z in np.ndindex(2, 2, 2):
        window = padded[2 * x : 2 * x + 3, 2 * y : 2 * y + 3, 2 * z : 2 * z + 3]
        expected[x, y, z] = (window * kernel).sum() + 0.5
    np.testing.assert_array_equal(found, expected)
    # The first window begins with the first voxel, and the last ends one behind the last.
    assert expected[1, 1, 1] == (volume[2:, 2:, 2:] * kernel[:2, :2, :2]).sum() + 0.5


def test_norms_have_keras_constants_and_those_of_the_cascade_no_factor() -> None:
    norm = batch_norm_3d(1)
    with torch.no_grad():
        found = norm(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1)).flatten().tolist()
    # Mean 2, variance 1: 1 / sqrt(1 + 1e-3). Remembered is a hundredth of what was seen, 2 and (unbiased) 2.
    np.testing.assert_allclose(found, [-(1.001**-0.5), 1.001**-0.5], rtol=1e-6)
    assert norm.running_mean.item() == pytest.approx(0.02)
    assert norm.running_var.item() == pytest.approx(0.99 + 0.02)
    network = small()
    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm3d)}
    assert {(m.eps, m.momentum) for m in norms.values()} == {(1e-3, 0.01)}
    fixed = {n for n, m in norms.items() if not m.weight.requires_grad}
    assert fixed == {n for n in norms if ".cascade." in n or ".shortcut." in n}
    assert len(fixed) == 16


def test_both_attentions_see_the_same_features_and_are_added() -> None:
    attention = DualAttention(5)
    with torch.no_grad():
        for layer in (attention.squeeze, attention.excite, attention.spatial):
            layer.weight.zero_()
            layer.bias.zero_()
        features = torch.arange(40.0).reshape(1, 5, 2, 2, 2)
        # Without any weights both are a half: together the features.
        torch.testing.assert_close(attention(features), features)
        attention.squeeze.weight[0, 1] = 1.0  # the mean of channel 1, which is 11.5
        attention.excite.weight[2, 0] = -1.0  # closes channel 2
        attention.spatial.weight[0, 0, 1, 1, 1] = -1.0  # the largest channel of the voxel itself: closes every voxel
        found = attention(features)
    expected = 0.5 * features
    expected[:, 2] = 0.0
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_maxima_over_three_five_and_seven_voxels_are_taken_side_by_side() -> None:
    """One behind the other, the last would reach 1 + 2 + 3 voxels to each side instead of 3."""
    pooling = PooledMaps(1, 1).eval()
    with torch.no_grad():
        for layer in (pooling.entry, pooling.exit):
            layer.weight.zero_()
            layer.bias.zero_()
        for norm in (pooling.entry_norm, pooling.exit_norm):
            norm.running_var.fill_(1.0 - 1e-3)  # an identity
        pooling.entry.weight.fill_(1.0)
        for number in range(4):
            pooling.exit.weight[number, number] = 1.0
        point = torch.zeros(1, 1, 15, 15, 15)
        point[0, 0, 7, 7, 7] = 1.0
        found = pooling(point)[0]
    assert [(found[k] > 0).sum().item() for k in range(4)] == [1, 27, 125, 343]


def test_a_strided_convolution_ends_with_silu_and_first_weights_have_the_deviation_of_their_rule() -> None:
    torch.manual_seed(0)
    block = StridedConv(64, 64).eval()
    limit = (6 / (27 * 64)) ** 0.5
    assert 0.99 * limit < block.conv.weight.abs().max().item() <= limit
    with torch.no_grad():
        block.conv.weight.zero_()
        block.conv.bias.fill_(-2.0)
        block.norm.running_var.fill_(1.0 - 1e-3)
        found = block(torch.zeros(1, 64, 2, 2, 2)).flatten()[0].item()
    assert found == pytest.approx(-2.0 / (1.0 + np.exp(2.0)))
    up = small(decoder_channels=[64, 32, 4, 3, 2]).up[0].weight
    # Glorot's sum counts the eight values of the kernel on both sides.
    limit = (6 / (8 * (64 + 32))) ** 0.5
    assert 0.99 * limit < up.abs().max().item() <= limit


# --- all of it in numpy, from the table alone


def conv(values: Array, weight: Array, bias: Array | None = None, stride: int = 1) -> Array:
    """Keras's padding "same": (C, x, y, z), weights (O, C, k, k, k)."""
    kernel = weight.shape[2]
    size = [s // stride for s in values.shape[1:]]
    total = max(kernel - stride, 0)
    padded = np.pad(values, [(0, 0)] + [(total // 2, total - total // 2)] * 3)
    result = np.zeros((len(weight), *size))
    for x, y, z in np.ndindex(kernel, kernel, kernel):
        seen = padded[:, x:, y:, z:][:, ::stride, ::stride, ::stride][:, : size[0], : size[1], : size[2]]
        result += np.einsum("oc,cxyz->oxyz", weight[:, :, x, y, z], seen)
    return result if bias is None else result + bias[:, None, None, None]


def enlarge(values: Array, weight: Array, bias: Array) -> Array:
    """A transposed convolution with kernel and stride 2: weights (C, O, 2, 2, 2)."""
    x, y, z = values.shape[1:]
    result = np.einsum("cxyz,coabd->oxaybzd", values, weight).reshape(weight.shape[1], 2 * x, 2 * y, 2 * z)
    return result + bias[:, None, None, None]


def largest(values: Array, kernel: int) -> Array:
    reach = kernel // 2
    padded = np.pad(values, [(0, 0)] + [(reach, reach)] * 3, constant_values=-np.inf)
    x, y, z = values.shape[1:]
    shifted = [padded[:, a : a + x, b : b + y, c : c + z] for a, b, c in np.ndindex(kernel, kernel, kernel)]
    return np.max(shifted, axis=0)


def sigmoid(values: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-values))


class Numpy:
    """The network from the table of its nodes, with weights by our names."""

    def __init__(self, network: Any) -> None:
        self.weights = {n: t.detach().numpy().astype(np.float64) for n, t in network.state_dict().items()}

    def conv(self, name: str, values: Array, stride: int = 1) -> Array:
        return conv(values, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), stride)

    def norm(self, name: str, values: Array, *, factor: bool = True) -> Array:
        mean, variance, shift = (
            self.weights[f"{name}.{n}"][:, None, None, None] for n in ("running_mean", "running_var", "bias")
        )
        scaled = (values - mean) / np.sqrt(variance + 1e-3)
        return scaled * self.weights[f"{name}.weight"][:, None, None, None] + shift if factor else scaled + shift

    def scale(self, name: str, values: Array) -> Array:
        def block(part: str, seen: Array) -> Array:
            return np.maximum(self.norm(f"{part}.norm", self.conv(f"{part}.conv", seen), factor=False), 0.0)

        first = block(f"{name}.cascade.0", values)
        second = block(f"{name}.cascade.1", first)
        third = block(f"{name}.cascade.2", second)
        joined = np.concatenate([first, second, third])
        mean = joined.mean(axis=(1, 2, 3), keepdims=True)
        squeezed = np.maximum(self.conv(f"{name}.attention.squeeze", mean), 0.0)
        channel = sigmoid(self.conv(f"{name}.attention.excite", squeezed))
        seen = np.stack([joined.max(axis=0), joined.mean(axis=0)])
        spatial = sigmoid(self.conv(f"{name}.attention.spatial", seen))
        attended = joined * channel + joined * spatial
        return np.maximum(self.norm(f"{name}.norm", block(f"{name}.shortcut", values) + attended), 0.0)

    def pool(self, values: Array) -> Array:
        entered = self.norm("pooling.entry_norm", self.conv("pooling.entry", values))
        entered = np.where(entered > 0, entered, 0.2 * entered)
        joined = np.concatenate([entered, *(largest(entered, k) for k in (3, 5, 7))])
        left = self.norm("pooling.exit_norm", self.conv("pooling.exit", joined))
        return left * sigmoid(left)

    def decode(self, number: int, values: Array) -> Array:
        inner = np.maximum(self.conv(f"merge.{number}.first", values), 0.0)
        return np.maximum(self.conv(f"merge.{number}.second", inner), 0.0)

    def __call__(self, batch: Array) -> Array:
        values, skips = batch, [batch]
        for level in range(4):
            values = self.norm(f"down.{level}.norm", self.conv(f"down.{level}.conv", values, stride=2))
            values = values * sigmoid(values)
            skips.append(values)
            values = self.scale(f"scales.{level}", values)
        values = self.decode(0, np.concatenate([self.pool(values), skips.pop()]))
        for level in range(4):
            up = enlarge(values, self.weights[f"up.{level}.weight"], self.weights[f"up.{level}.bias"])
            values = self.decode(level + 1, np.concatenate([up, skips.pop()]))
        return self.conv("head", values)


def test_a_tiny_one_computes_what_an_independent_implementation_in_numpy_computes() -> None:
    network = filled(out_channels=2)
    batch = np.random.default_rng(0).standard_normal((2, 32, 16, 16))
    expected = Numpy(network)(batch)
    with torch.no_grad():
        found = network.double()(torch.from_numpy(batch)[None])[0].numpy()
    assert expected.shape == (2, 32, 16, 16)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_one_logit_is_that_of_the_published_softmax() -> None:
    one, two = filled(), filled(out_channels=2)
    two.load_state_dict(one.state_dict())
    batch = torch.randn(2, 2, 16, 32, 16)
    with torch.no_grad():
        assert one(batch).shape == (2, 1, 16, 32, 16)
        torch.testing.assert_close(one(batch).sigmoid(), two(batch).softmax(dim=1)[:, 1:])


# --- in training


@pytest.mark.parametrize("attended_skips", [False, True])
def test_a_gradient_reaches_every_parameter_that_is_trained(attended_skips: bool) -> None:
    network = small(attended_skips=attended_skips)
    network(torch.randn(2, 2, 16, 16, 16)).square().mean().backward()
    without = {n for n, p in network.named_parameters() if p.grad is None}
    assert without == {n for n, p in network.named_parameters() if not p.requires_grad}


def test_computing_inner_maps_again_gives_the_same_gradients_and_remembers_each_batch_once() -> None:
    batch = torch.randn(2, 2, 16, 16, 16)
    found = []
    for checkpointing in (False, True):
        network = small(checkpointing=checkpointing)
        count: list[int] = []
        network.scales[0].register_forward_pre_hook(lambda *_, to=count: to.append(1))
        torch.manual_seed(5)
        network(batch).square().mean().backward()
        found.append(([p.grad for p in network.parameters() if p.requires_grad], dict(network.named_buffers()), count))
    (kept, remembered, once), (again, remembered_again, twice) = found
    assert (len(once), len(twice)) == (1, 2)
    for one, other in zip(kept, again, strict=True):
        torch.testing.assert_close(other, one)
    assert remembered["down.0.norm.num_batches_tracked"] == 1
    for name, value in remembered.items():
        assert torch.equal(remembered_again[name], value), name
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm3d)} == {0.01}


# --- as a network of the engine


def test_it_takes_sizes_that_its_levels_can_halve() -> None:
    assert form_of(small()).multiples == (16, 16, 16)
    with torch.no_grad():
        assert filled()(torch.zeros(1, 2, 48, 16, 32)).shape == (1, 1, 48, 16, 32)
    with pytest.raises(ModelError, match="multiples of 16x16x16"):
        small()(torch.zeros(1, 2, 32, 32, 20))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"units": [16, 32]}, "'units' has 2"),
        ({"decoder_channels": [8, 8]}, "'decoder_channels' has 2 entries, 'channels' 4"),
        ({"channels": 32}, "'channels' is 32"),
        ({"dropout": -0.1}, "'dropout' is -0.1"),
        ({"chanels": [1]}, "Did you mean 'channels'?"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as refused:
        build("mscs-net", **arguments)
    assert words in str(refused.value)


def test_its_graph_holds_for_every_size_and_openvino_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
    from tiny_model import tiny_card

    from strokeseg_training.export import export_model

    card = tiny_card("mscs", network="mscs-net", arguments=SMALL, channels=("adc", "dwi_ratio"), multiple=16)
    done = export_model(filled(), card, tmp_path / "mscs")
    assert done.card.runtime == "openvino"
    batch = np.random.default_rng(1).standard_normal((2, 2, 64, 48, 16), dtype=np.float32)
    results = lesion_logits_of_both(done.card, batch)
    assert results[0].shape == (2, 1, 64, 48, 16)
    assert np.abs(results[0] - results[1]).max() < 1e-3
