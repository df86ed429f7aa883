"""Networks by name: the published sizes, what fits into them, and how weights are loaded."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")

from strokeseg.errors import DependencyError, ModelError  # noqa: E402
from strokeseg.networks import build, form_of, load_state, named, names  # noqa: E402

SMALL = {"in_channels": 2, "channels": [4, 8]}
MONAI_UNET = {"spatial_dims": 3, "in_channels": 2, "out_channels": 1, "channels": [4, 8], "strides": [2]}
has_monai = pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="MONAI is not installed")

pytestmark = pytest.mark.usefixtures("one_thread")


def count(module):
    return sum(p.numel() for p in module.parameters())


def seeded(name, seed=0, **arguments):
    torch.manual_seed(seed)
    return build(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, 5_103_601),
        ({"in_channels": 2, "out_channels": 1}, 5_103_601),
        ({"in_channels": 1}, 5_103_153),
        ({"tissue": True}, 5_103_669),  # 16 * 4 + 4 more
        ({"in_channels": 4}, 5_104_497),  # 896 more than with two
    ],
)
def test_the_residual_unet_has_the_published_number_of_parameters(arguments, parameters):
    assert count(build("residual-unet", **arguments)) == parameters


def test_every_level_of_the_residual_unet_has_the_parameters_counted_by_hand():
    network = build("residual-unet")
    # 27 * before * after + 27 * after^2 + four norm vectors, and a shortcut of before * after + two where it changes.
    assert [count(b) for b in network.down] == [7_904, 42_176, 168_320, 672_512, 2_688_512]
    assert [count(u) for u in network.up] == [262_144, 65_536, 16_384, 4_096]  # 8 * deep * fine
    assert [count(b) for b in network.merge] == [885_248, 221_440, 55_424, 13_888]  # 54 * fine^2 + 4 * fine
    assert count(network.heads["lesion"]) == 17


def test_levels_halve_the_size_and_the_skip_is_added():
    network = seeded("residual-unet", **SMALL).eval()
    batch = torch.randn(1, 2, 4, 6, 8)
    fine = network.down[0](batch)
    deep = network.down[1](fine)
    assert fine.shape == (1, 4, 4, 6, 8)
    assert deep.shape == (1, 8, 2, 3, 4)
    expected = network.heads["lesion"](network.merge[0](network.up[0](deep) + fine))
    assert torch.equal(network(batch), expected)


def test_a_residual_block_adds_its_input_before_the_activation():
    block = build("residual-unet", **SMALL).merge[0].eval()
    torch.nn.init.zeros_(block.second_norm.weight)  # the convolutions count nothing now
    values = torch.tensor([-3.0, -1.0, 0.0, 2.0]).reshape(1, 1, 1, 1, 4).expand(1, 4, 2, 2, 4)
    expected = torch.tensor([-0.03, -0.01, 0.0, 2.0]).reshape(1, 1, 1, 1, 4).expand(1, 4, 2, 2, 4)
    torch.testing.assert_close(block(values), expected)


def test_a_convolution_of_a_block_knows_no_bias_and_its_shortcut_exists_only_where_the_shape_changes():
    network = build("residual-unet")
    with_bias = [n for n, m in network.named_modules() if getattr(m, "kernel_size", None) and m.bias is not None]
    assert with_bias == ["heads.lesion"]
    assert [isinstance(b.shortcut, torch.nn.Identity) for b in network.down] == [False] * 5
    assert [isinstance(b.shortcut, torch.nn.Identity) for b in network.merge] == [True] * 4


def test_outputs_are_a_tensor_or_named_and_named_gives_both_by_name():
    batch = torch.zeros(2, 2, 4, 4, 2)
    one, two = build("residual-unet", **SMALL), build("residual-unet", out_channels=3, tissue=True, **SMALL)
    assert one(batch).shape == (2, 1, 4, 4, 2)
    assert {k: tuple(v.shape) for k, v in two(batch).items()} == {
        "lesion": (2, 3, 4, 4, 2),
        "tissue": (2, 4, 4, 4, 2),
    }
    assert list(named(one, batch)) == ["lesion"]
    assert list(named(two, batch)) == ["lesion", "tissue"]
    assert form_of(two).outputs == ("lesion", "tissue")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 2, 5, 4, 4), "5x4x4 voxels; the axes must be multiples of 2x2x2"),
        ((1, 2, 4, 4, 1), "4x4x1 voxels"),
        ((1, 3, 4, 4, 4), "takes (N, 2, x, y, z), given was (1, 3, 4, 4, 4)"),
        ((1, 2, 4, 4), "given was (1, 2, 4, 4)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_in_words(shape, words):
    with pytest.raises(ModelError) as refused:
        build("residual-unet", **SMALL)(torch.zeros(shape))
    assert words in str(refused.value)


def test_the_refusal_says_what_the_card_must_pad_to():
    network = build("residual-unet")
    assert form_of(network).multiple == 16
    with pytest.raises(ModelError, match=r"'preparation\.multiple' of the card to 16"):
        network(torch.zeros(1, 2, 17, 16, 16))


def test_the_smallest_input_has_one_voxel_at_the_deepest_level_which_normalises_to_its_bias():
    network = seeded("residual-unet", **SMALL).eval()
    assert torch.isfinite(network(torch.randn(1, 2, 2, 2, 2))).all()
    norm = network.down[1].first_norm
    with torch.no_grad():
        norm.bias.copy_(torch.arange(8.0))
    # x - mean(x) is not exactly 0 in floats, and is divided by the root of eps.
    torch.testing.assert_close(norm(torch.randn(1, 8, 1, 1, 1)).flatten(), torch.arange(8.0), atol=1e-4, rtol=0)


def test_where_there_is_more_than_one_voxel_the_norm_is_that_of_pytorch():
    norm = build("residual-unet", **SMALL).down[1].first_norm
    features = torch.randn(2, 8, 3, 2, 1)
    assert torch.equal(norm(features), torch.nn.functional.instance_norm(features, weight=norm.weight, bias=norm.bias))


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    one, same, other = (seeded("residual-unet", seed, **SMALL).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["down.0.first.weight"], other["down.0.first.weight"])


def test_the_first_output_has_neither_vanished_nor_exploded():
    logits = seeded("residual-unet")(torch.randn(1, 2, 32, 32, 32))
    assert 0.1 < logits.std().item() < 10


def test_a_gradient_reaches_every_parameter():
    network = seeded("residual-unet", tissue=True, **SMALL)
    outputs = network(torch.randn(1, 2, 8, 8, 8))
    # The square: the mean of a normalised map is its bias whatever came before.
    sum((o**2).mean() for o in outputs.values()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_package_is_imported_without_torch():
    code = "import sys, strokeseg.networks as n; n.names(); print('torch' in sys.modules, 'monai' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "StrokeSegExtension")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("residual-unt", {}, "Did you mean 'residual-unet'?"),
        ("monai:SegResnet", {}, "Did you mean 'monai:SegResNet'?"),
        ("monai:VNet", {}, "There is no network 'monai:VNet'"),
        ("os:system", {}, "There is no network 'os:system'"),
        ("residual-unet", {"chanels": [4]}, "Did you mean 'channels'?"),
        ("residual-unet", {"channels": [4, "8"]}, "'channels' is (4, '8')"),
        ("residual-unet", {"channels": []}, "'channels' is ()"),
        ("residual-unet", {"in_channels": 0}, "'in_channels' is 0"),
        ("residual-unet", {"in_channels": print}, "holds a 'builtin_function_or_method'"),
    ],
)
def test_a_wrong_name_or_argument_is_refused_with_the_nearest(name, arguments, words):
    with pytest.raises(ModelError) as refused:
        build(name, **arguments)
    assert words in str(refused.value)


@has_monai
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("monai:UNet", {"spatial_dims": 3}, "Arguments are missing: in_channels, out_channels, channels, strides"),
        ("monai:UNet", {**MONAI_UNET, "spatial_dims": 1}, "'spatial_dims' is 1"),
        ("monai:UNet", {**MONAI_UNET, "chanels": [1]}, "Did you mean 'channels'?"),
        ("monai:UNet", {**MONAI_UNET, "norm": "FOO"}, "Unsupported option 'FOO'"),
        ("monai:SegResNet", {"norm": ["GROUP", {"num_groups": 8}], "init_filters": 4}, "num_channels"),
    ],
)
def test_what_monai_refuses_is_a_model_error_too(name, arguments, words):
    with pytest.raises(ModelError) as refused:
        build(name, **arguments)
    assert words in str(refused.value)


@has_monai
def test_a_network_of_monai_keeps_its_own_state_dict_and_takes_json_lists_for_tuples():
    from monai.networks.nets import SegResNet

    own = SegResNet(spatial_dims=3, in_channels=2, out_channels=1, init_filters=8, act=("RELU", {"inplace": True}))
    ours = build(
        "monai:SegResNet",
        spatial_dims=3,
        in_channels=2,
        out_channels=1,
        init_filters=8,
        act=["RELU", {"inplace": True}],
    )
    assert list(ours.state_dict()) == list(own.state_dict())
    load_state(ours, own.state_dict())
    batch = torch.randn(1, 2, 8, 16, 8)
    with torch.no_grad():
        assert torch.equal(named(ours.eval(), batch)["lesion"], own.eval()(batch))
    with pytest.raises(ModelError, match="multiples of 8x8x8"):
        ours(torch.zeros(1, 2, 8, 12, 8))


# Built at their published size without arguments, which is large, one input, slices, or three classes: their own tests.
NOT_PLAIN = (
    "atlas-unet", "atlas-segnet", "atlas-resunet", "lesion-net", "attention-unet-3d", "mscs-net", "segformer3d",
)  # fmt: skip


@has_monai
@pytest.mark.parametrize("name", [n for n in names() if n not in (*NOT_PLAIN, "monai:UNETR", "monai:SwinUNETR")])
def test_every_network_is_built_without_arguments_with_two_inputs_and_one_logit(name):
    network = build(name).eval()
    form = form_of(network)
    x, y, z = (2 * m for m in form.multiples)
    with torch.no_grad():
        assert named(network, torch.zeros(1, 2, x, y, z))["lesion"].shape == (1, 1, x, y, z)


@has_monai
@pytest.mark.skipif(importlib.util.find_spec("einops") is not None, reason="einops is installed")
@pytest.mark.parametrize("name", ["monai:UNETR", "monai:SwinUNETR"])
def test_a_network_whose_library_is_missing_says_which(name):
    with pytest.raises(DependencyError, match="'einops' is not installed"):
        build(name)


@has_monai
@pytest.mark.skipif(importlib.util.find_spec("einops") is None, reason="einops, which transformers need, is missing")
def test_a_transformer_takes_only_the_size_it_was_built_for():
    network = build(
        "monai:UNETR", in_channels=2, out_channels=1, img_size=[16, 32, 16], hidden_size=24, mlp_dim=24, num_heads=2
    )
    assert form_of(network).input_shape == (16, 32, 16)
    assert not form_of(network).any_size_in_graph
    with pytest.raises(ModelError, match="built for 16x32x16 voxels"):
        network(torch.zeros(1, 2, 16, 16, 16))


@has_monai
@pytest.mark.filterwarnings("ignore:.len.strides")
def test_strides_that_monai_ignores_do_not_count():
    network = build("monai:UNet", **{**MONAI_UNET, "strides": [2, 2, 2]})
    assert form_of(network).multiple == 2
    assert network(torch.zeros(1, 2, 2, 4, 4)).shape == (1, 1, 2, 4, 4)


@has_monai
def test_a_network_for_slices_takes_volumes_of_one_slice():
    network = build("monai:UNet", **{**MONAI_UNET, "spatial_dims": 2})
    assert form_of(network).multiples == (2, 2, 1)
    assert network(torch.zeros(3, 2, 4, 6, 1)).shape == (3, 1, 4, 6, 1)
    with pytest.raises(ModelError, match="z must be 1"):
        network(torch.zeros(3, 2, 4, 6, 2))


@has_monai
def test_strides_that_differ_by_axis_give_a_multiple_for_each():
    network = build(
        "monai:DynUNet",
        spatial_dims=3,
        in_channels=2,
        out_channels=1,
        kernel_size=[3, 3, 3],
        strides=[1, [2, 2, 1], 2],
        upsample_kernel_size=[[2, 2, 1], 2],
        filters=[4, 8, 8],
    )
    assert form_of(network).multiples == (4, 4, 2)
    assert form_of(network).multiple == 4
    assert network(torch.zeros(1, 2, 8, 8, 2)).shape[-1] == 2


def test_a_network_that_was_not_built_here_has_no_form():
    with pytest.raises(ModelError, match="'Conv3d' was not made by"):
        form_of(torch.nn.Conv3d(2, 1, 1))


def test_weights_are_loaded_strictly_and_nothing_is_copied_where_they_do_not_fit():
    network = seeded("residual-unet", 1, **SMALL)
    state = seeded("residual-unet", 2, **SMALL).state_dict()
    before = network.heads["lesion"].weight.clone()
    head = {k: v for k, v in state.items() if not k.startswith("heads.")}
    cases = [
        (head, "have no 'heads.lesion.weight', 'heads.lesion.bias'"),
        ({**state, "heads.other.weight": torch.zeros(1)}, "has no 'heads.other.weight'"),
        ({**state, "heads.lesion.bias": torch.zeros(3)}, "'heads.lesion.bias' has the shape (3,), not (1,)"),
        ({**state, "down.0.first.weight": state["down.0.first.weight"] * np.nan}, "no finite numbers"),
    ]
    for wrong, words in cases:
        with pytest.raises(ModelError) as refused:
            load_state(network, wrong)
        assert words in str(refused.value)
        assert torch.equal(network.heads["lesion"].weight, before)
    load_state(network, {k: v.half() for k, v in state.items()})
    assert network.heads["lesion"].weight.dtype == torch.float32
    assert torch.equal(network.heads["lesion"].weight, state["heads.lesion.weight"].half().float())


@has_monai
def test_a_tensor_that_a_network_holds_under_two_names_is_needed_once():
    arguments = {
        "spatial_dims": 3,
        "in_channels": 2,
        "out_channels": 1,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    }
    network, other = seeded("monai:DynUNet", 1, **arguments), seeded("monai:DynUNet", 2, **arguments)
    state = network.state_dict()
    once = {k: v for k, v in state.items() if not k.startswith("skip_layers.")}
    assert 0 < len(once) < len(state)
    load_state(other, once)
    assert all(torch.equal(other.state_dict()[k], state[k]) for k in state)
