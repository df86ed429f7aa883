"""Weights of Keras in .npz files, written here as Keras would name them, into MSCS-Net and back to known numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")
pytest.importorskip("h5py", reason="the importers of Keras's weights need h5py, which is not installed")

import typer  # noqa: E402
from built_networks import shape_only  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.errors import InputError, ModelError  # noqa: E402
from strokeseg.networks import build, load_state  # noqa: E402
from strokeseg_training import cli_import, import_npz  # noqa: E402

SMALL: dict[str, Any] = {
    "channels": [3, 4, 5, 6],
    "units": [3, 4, 5, 6],
    "pooled": 3,
    "decoder_channels": [6, 5, 4, 3, 2],
}
# Every width is found more than once: what goes where is told by the order in which layers were made alone.
ALIKE: dict[str, Any] = {"channels": [4] * 4, "units": [3] * 4, "pooled": 4, "decoder_channels": [4] * 5}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def filled(**arguments: Any) -> Any:
    """A network in which every number is another one, but the factors that Keras does not have."""
    network = build("mscs-net", **arguments).eval()
    fixed = {n for n, p in network.named_parameters() if not p.requires_grad}
    generator = torch.Generator().manual_seed(2)
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and key not in fixed:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if "var" in key else -0.3))
    return network


def in_keras(
    network: Any, *, start: int = 0, ending: str = "", own_names: bool = False, within: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """Arrays by their names in Keras, in another order than they were made, and Keras's layers to ours.

    Args:
        network: Ours, whose weights are written.
        start: Number of the first layer of each kind, as it is where a program made other models before.
        ending: Of the names, ``:0`` in older versions.
        own_names: The layers have names of a person, and the file lists them as they were made.
        within: What the layers' names begin with: that of a block.
    """
    numbers: dict[str, int] = {}
    layers: list[tuple[str, dict[str, Any], str]] = []
    for ours, module in network.named_modules():
        if isinstance(module, nn.BatchNorm3d):
            kind = "batch_normalization"
            state = {NORM[k]: v for k, v in module.state_dict().items() if k in NORM}
            tensors = {k: v for k, v in state.items() if k != "gamma" or module.weight.requires_grad}
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            kind = "conv3d_transpose" if isinstance(module, nn.ConvTranspose3d) else "conv3d"
            tensors = {"kernel": module.weight.detach().permute(2, 3, 4, 1, 0)}
            if module.bias is not None:
                tensors["bias"] = module.bias.detach()
        else:
            continue
        number = numbers.get(kind, start)
        numbers[kind] = number + 1
        name = f"layer{len(layers):02}" if own_names else f"{kind}_{number}" if number else kind
        layers.append((within + name, tensors, ours))
    listed = layers if own_names else layers[::2] + layers[1::2]
    arrays = {f"{name}/{kind}{ending}": t.numpy() for name, tensors, _ in listed for kind, t in tensors.items()}
    return arrays, {name: ours for name, _, ours in layers}


def assert_equal(state: dict[str, Any], network: Any) -> None:
    expected = network.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("arguments", [SMALL, ALIKE], ids=["widths differ", "widths alike"])
@pytest.mark.parametrize(
    "layout", [{}, {"start": 9, "ending": ":0"}, {"own_names": True}, {"within": "model/block/", "ending": ":0"}]
)
def test_every_number_comes_back_whatever_keras_called_it(
    arguments: dict[str, Any], layout: dict[str, Any], tmp_path: Path
) -> None:
    network = filled(**arguments)
    arrays, names = in_keras(network, **layout)
    np.savez(tmp_path / "w.npz", **arrays)
    done = import_npz.import_npz(tmp_path / "w.npz", "mscs-net", arguments)
    assert_equal(done.state, network)
    assert done.names == names


def test_the_network_computes_the_same_afterwards(tmp_path: Path) -> None:
    network = filled(**SMALL)
    np.savez(tmp_path / "w.npz", **in_keras(network)[0])
    again = build("mscs-net", **SMALL).eval()
    load_state(again, import_npz.import_npz(tmp_path / "w.npz", "mscs-net", SMALL).state)
    batch = torch.randn(1, 2, 16, 16, 32)
    with torch.no_grad():
        assert torch.equal(again(batch), network(batch))


def test_a_kernel_of_keras_is_the_same_weight_in_our_order_of_axes(tmp_path: Path) -> None:
    network = filled(**SMALL)
    arrays, names = in_keras(network)
    theirs = {ours: name for name, ours in names.items()}
    kernel = np.zeros((3, 3, 3, 2, 3), np.float32)  # x, y, z, in, out
    kernel[0, 1, 2, 1, 2] = 7.0
    transposed = np.zeros((2, 2, 2, 5, 6), np.float32)  # x, y, z, out, in
    transposed[1, 0, 1, 4, 3] = 5.0
    arrays[f"{theirs['down.0.conv']}/kernel"] = kernel
    arrays[f"{theirs['up.0']}/kernel"] = transposed
    np.savez(tmp_path / "w.npz", **arrays)
    state = import_npz.import_npz(tmp_path / "w.npz", "mscs-net", SMALL).state
    found = {key: [tuple(i) for i in state[key].nonzero().tolist()] for key in ("down.0.conv.weight", "up.0.weight")}
    assert found == {"down.0.conv.weight": [(2, 1, 0, 1, 2)], "up.0.weight": [(3, 4, 1, 0, 1)]}


def test_factors_that_keras_does_not_have_stay_one(tmp_path: Path) -> None:
    arrays, _ = in_keras(filled(**SMALL))
    assert sum(name.endswith("gamma") for name in arrays) == 4 + 4 + 2  # strided, behind each scale, pooling
    np.savez(tmp_path / "w.npz", **arrays)
    state = import_npz.import_npz(tmp_path / "w.npz", "mscs-net", SMALL).state
    assert state["scales.2.cascade.1.norm.weight"].tolist() == [1.0] * 8
    assert state["scales.2.norm.weight"].unique().numel() > 1


def test_of_the_published_size_layers_are_alike_only_in_the_same_place_of_a_level_or_of_a_cascade() -> None:
    network = shape_only("mscs-net")
    alike: dict[Any, list[str]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d | nn.BatchNorm3d):
            alike.setdefault(import_npz._form(module), []).append(name)
    assert sorted(names for names in alike.values() if len(names) > 1) == [
        ["down.0.norm", "down.1.norm"],
        [f"scales.{level}.attention.spatial" for level in range(4)],
        *([f"scales.{level}.cascade.{k}.norm" for k in range(3)] for level in range(4)),
    ]


# --- what is refused


class Anything:
    """Stands for an object that would run code when it is read."""


def without(name: str) -> Any:
    return lambda arrays: {k: v for k, v in arrays.items() if not k.startswith(name)}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (without("conv3d_3/"), "It has 0 layers with bias 6, kernel 3x3x3x24x6, the network 1 (ours is 'down.3.conv')"),
        (
            without("conv3d/bias"),
            "It has 0 layers with bias 3, kernel 3x3x3x2x3, the network 1 (ours is 'down.0.conv')",
        ),
        (lambda a: {**a, "conv3d_99/kernel": np.zeros((1, 1, 1, 2, 2))}, "the network 0 ('conv3d_99')"),
        (lambda a: {**a, "dense/alpha": np.zeros(3)}, "belongs to neither a convolution nor a norm"),
        (lambda a: {**a, "kernel": np.zeros(3)}, "belongs to neither a convolution nor a norm"),
        (lambda a: {**a, "conv3d/bias": np.array([np.nan] * 3, np.float32)}, "no finite numbers"),
        (lambda a: {**a, "conv3d/bias": np.array([1, 2, 3])}, "not as numbers (int64)"),
        (lambda a: {**a, "conv3d/bias:0": np.zeros(3, np.float32)}, "twice"),
        (lambda a: {**a, "conv3d/bias": np.array([Anything()] * 3)}, "Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_does_not_hold_the_network_is_refused_in_words(edit: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **edit(in_keras(filled(**SMALL))[0]))
    with pytest.raises(ModelError) as refused:
        import_npz.import_npz(tmp_path / "w.npz", "mscs-net", SMALL)
    assert words in str(refused.value)


def test_another_size_another_network_and_other_files_are_refused_in_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **in_keras(filled(**SMALL))[0])
    with pytest.raises(ModelError, match="are those of another network"):
        import_npz.import_npz(tmp_path / "w.npz", "mscs-net", {**SMALL, "pooled": 4})
    with pytest.raises(InputError, match="There are importers for: mscs-net"):
        import_npz.import_npz(tmp_path / "w.npz", "lesion-net")
    with pytest.raises(InputError, match="There is no file"):
        import_npz.import_npz(tmp_path / "absent.npz", "mscs-net", SMALL)
    (tmp_path / "text.npz").write_text("no weights")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "half.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:5000])
    for name in ("text.npz", "one.npy", "half.npz"):
        with pytest.raises(ModelError, match="cannot be read"):
            import_npz.import_npz(tmp_path / name, "mscs-net", SMALL)


# --- the command


def test_the_command_writes_a_checkpoint_and_says_which_layer_went_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = filled(**SMALL)
    arrays, names = in_keras(network)
    np.savez(tmp_path / "w.npz", **arrays)
    # The command takes the published size, which would be 148 MB here.
    monkeypatch.setattr(import_npz, "build", lambda name: build(name, **SMALL))
    app = typer.Typer()
    cli_import.register(app)
    out = tmp_path / "w.safetensors"
    command = [str(tmp_path / "w.npz"), "--network", "mscs-net", "--out", str(out), "--format", "json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["names"] == names
    assert said["network"] == "mscs-net"
    assert_equal({k: load_file(out)[k] for k in network.state_dict()}, network)
