"""Weights of Keras: files in its layout, written here by hand, into our networks and back to numbers known before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")
h5py = pytest.importorskip("h5py", reason="reading files of Keras needs h5py, which is not installed")

import typer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.errors import InputError, ModelError  # noqa: E402
from strokeseg.networks import build, load_state  # noqa: E402
from strokeseg_training import cli_import  # noqa: E402
from strokeseg_training.import_keras import NETWORKS, import_keras  # noqa: E402

SMALL = {"channels": [2, 3, 4]}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def filled(name: str, **arguments: Any) -> Any:
    """A network in which every number is another one."""
    network = build(name, **arguments).eval()
    generator = torch.Generator().manual_seed(2)
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if "var" in key else -0.3))
    return network


def keras_order(network: Any, *, shortcut_last: bool) -> list[tuple[str, Any]]:
    """Convolutions and norms as a program would make them: each convolution with its norm, shortcut first or last."""
    modules = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if shortcut_last:
        blocks = [(n.rpartition("shortcut")[0], n, m) for n, m in modules if n.endswith("shortcut")]
        for block, name, module in blocks:
            modules.remove((name, module))
            last = max(i for i, (n, _) in enumerate(modules) if n.startswith(block))
            modules.insert(last + 1, (name, module))
    known = dict(network.named_modules())
    made = []
    for name, module in modules:
        made.append((name, module))
        norm = f"{name}_norm" if f"{name}_norm" in known else name.removesuffix("conv") + "norm"
        if isinstance(known.get(norm), nn.BatchNorm2d):
            made.append((norm, known[norm]))
    return made


def write_h5(
    path: Path, network: Any, *, start: int = 0, inside: str = "", shortcut_last: bool = False, own_names: bool = False
) -> dict[str, str]:
    """A file in the layout of Keras 2's ``save_weights``; gives Keras's layer names to ours.

    Args:
        path: Of the file.
        network: Ours, whose weights are written.
        start: Number of the first layer of each kind, as it is where a program made other models before.
        inside: Group that holds everything: ``model_weights`` in files of whole models.
        shortcut_last: A block's shortcut is made after its other convolutions.
        own_names: The layers have names of a person.
    """
    numbers: dict[str, int] = {}
    layers = []
    for ours, module in keras_order(network, shortcut_last=shortcut_last):
        if isinstance(module, nn.BatchNorm2d):
            kind, tensors = "batch_normalization", {NORM[k]: v for k, v in module.state_dict().items() if k in NORM}
        else:
            kind = "conv2d_transpose" if isinstance(module, nn.ConvTranspose2d) else "conv2d"
            tensors = {"kernel": module.weight.detach().permute(2, 3, 1, 0), "bias": module.bias.detach()}
        number = numbers.get(kind, start)
        numbers[kind] = number + 1
        name = f"layer{len(layers):02}" if own_names else f"{kind}_{number}" if number else kind
        layers.append((name, tensors, ours))
    with h5py.File(path, "w") as file:
        root = file.create_group(inside) if inside else file
        listed = [("input_1", {}, ""), *layers, ("activation", {}, "")]
        if not own_names:
            # Keras lists layers by their distance from the output: not as they were made.
            listed = listed[::2] + listed[1::2]
        root.attrs["layer_names"] = [name.encode() for name, _, _ in listed]
        root.attrs["backend"] = b"tensorflow"
        for name, tensors, _ in listed:
            group = root.create_group(name)
            # Texts of one length, or of any: both kinds are found in files.
            weights = [f"{name}/{kind}:0" for kind in tensors]
            group.attrs["weight_names"] = np.array(weights, dtype="S") if weights else []
            for kind, tensor in tensors.items():
                group.create_dataset(f"{name}/{kind}:0", data=tensor.numpy())
    return {name: ours for name, _, ours in layers}


def assert_equal(state: dict[str, Any], network: Any) -> None:
    expected = network.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_comes_back_and_the_network_computes_the_same(name: str, tmp_path: Path) -> None:
    network = filled(name, **SMALL)
    names = write_h5(tmp_path / "w.h5", network)
    done = import_keras(tmp_path / "w.h5", name, SMALL)
    assert_equal(done.state, network)
    assert done.names == names
    again = build(name, **SMALL).eval()
    load_state(again, done.state)
    batch = torch.randn(1, 1, 16, 8, 1)
    with torch.no_grad():
        assert torch.equal(again(batch), network(batch))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "layout",
    [{"start": 24}, {"start": 9}, {"inside": "model_weights"}, {"own_names": True}, {"shortcut_last": True}],
)
def test_every_way_in_which_such_files_differ_gives_the_same(name: str, layout: dict[str, Any], tmp_path: Path) -> None:
    network = filled(name, **SMALL)
    write_h5(tmp_path / "w.h5", network, **layout)
    assert_equal(import_keras(tmp_path / "w.h5", name, SMALL).state, network)


def test_a_kernel_of_keras_is_the_same_weight_in_our_order_of_axes(tmp_path: Path) -> None:
    network = filled("atlas-unet", **SMALL)
    write_h5(tmp_path / "w.h5", network)
    kernel = np.zeros((3, 3, 3, 4), np.float32)  # x, y, in, out
    kernel[0, 2, 1, 3] = 7.0
    transposed = np.zeros((2, 2, 3, 4), np.float32)  # x, y, out, in
    transposed[1, 0, 2, 3] = 5.0
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        file["conv2d_4/conv2d_4/kernel:0"][...] = kernel  # the first convolution of the third level
        file["conv2d_transpose/conv2d_transpose/kernel:0"][...] = transposed
    state = import_keras(tmp_path / "w.h5", "atlas-unet", SMALL).state
    found = {key: [tuple(i) for i in state[key].nonzero().tolist()] for key in ("down.2.first.weight", "up.0.weight")}
    assert found == {"down.2.first.weight": [(3, 1, 0, 2)], "up.0.weight": [(3, 2, 1, 0)]}
    # A 1 in the input at (0, 0) lands at (1, 0) of the four pixels that are made of it, in Keras as in PyTorch.
    up = nn.ConvTranspose2d(4, 3, 2, stride=2, bias=False)
    up.weight.data = state["up.0.weight"]
    pixel = torch.zeros(1, 4, 1, 1)
    pixel[0, 3] = 1.0
    assert up(pixel).nonzero().tolist() == [[0, 2, 1, 0]]


def test_the_published_size_is_taken_without_arguments(tmp_path: Path) -> None:
    network = filled("atlas-resunet")
    write_h5(tmp_path / "w.h5", network)
    done = import_keras(tmp_path / "w.h5", "atlas-resunet")
    assert sum(t.numel() for n, t in done.state.items() if "num_batches" not in n) == 3_260_483
    assert_equal(done.state, network)


# --- what is refused


def edited(path: Path, network: Any, edit: Any) -> Path:
    write_h5(path, network)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def drop_layer(file: Any) -> None:
    file.attrs["layer_names"] = [n for n in file.attrs["layer_names"] if n not in ("conv2d_1", b"conv2d_1")]


def drop_tensor(file: Any) -> None:
    file["conv2d_1"].attrs["weight_names"] = [b"conv2d_1/kernel:0"]


def link_outside(file: Any) -> None:
    del file["conv2d_1/conv2d_1/bias:0"]
    file["conv2d_1/conv2d_1/bias:0"] = h5py.ExternalLink("/etc/hostname", "/x")


def not_finite(file: Any) -> None:
    file["conv2d_1/conv2d_1/bias:0"][0] = np.nan


def dense_layer(file: Any) -> None:
    file["activation"].attrs["weight_names"] = [b"w/alpha:0"]
    file["activation"].create_dataset("w/alpha:0", data=np.zeros(3, np.float32))


def no_list(file: Any) -> None:
    del file.attrs["layer_names"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (drop_layer, "It has 12 convolutions and 0 norms, the network 13 and 0"),
        (drop_tensor, "'conv2d_1' has nothing for 'down.0.second.bias'"),
        (link_outside, "does not hold them as numbers"),
        (not_finite, "values that are no finite numbers"),
        (dense_layer, "neither a convolution nor a norm"),
        (no_list, "no list of layers"),
    ],
)
def test_a_file_that_does_not_hold_the_network_is_refused_in_words(edit: Any, words: str, tmp_path: Path) -> None:
    network = filled("atlas-unet", **SMALL)
    with pytest.raises(ModelError) as refused:
        import_keras(edited(tmp_path / "w.h5", network, edit), "atlas-unet", SMALL)
    assert words in str(refused.value)


def test_another_size_another_network_and_other_files_are_refused_in_words(tmp_path: Path) -> None:
    write_h5(tmp_path / "w.h5", filled("atlas-unet", **SMALL))
    with pytest.raises(ModelError, match="in our order of axes"):
        import_keras(tmp_path / "w.h5", "atlas-unet", {"channels": [2, 3, 5]})
    with pytest.raises(ModelError, match="are those of another network"):
        import_keras(tmp_path / "w.h5", "atlas-segnet", SMALL)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ModelError, match="no HDF5 file"):
        import_keras(tmp_path / "text.h5", "atlas-unet")
    with pytest.raises(InputError, match="There is no file"):
        import_keras(tmp_path / "absent.h5", "atlas-unet")
    with pytest.raises(InputError, match="published in Keras: atlas-unet"):
        import_keras(tmp_path / "w.h5", "lesion-net")


# --- the command


def run(*arguments: str) -> Any:
    app = typer.Typer()
    cli_import.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_writes_a_checkpoint_and_says_which_layer_went_where(tmp_path: Path) -> None:
    network = filled("atlas-resunet")
    names = write_h5(tmp_path / "w.h5", network)
    out = tmp_path / "w.safetensors"
    done = run(str(tmp_path / "w.h5"), "--network", "atlas-resunet", "--out", str(out), "--format", "json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["values"], said["names"]) == (3_260_483, names)
    assert_equal({k: load_file(out)[k] for k in network.state_dict()}, network)
    again = run(str(tmp_path / "w.h5"), "--network", "atlas-resunet", "--out", str(out))
    assert again.exit_code == InputError.exit_code
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.h5", "w.safetensors"]


def test_the_command_refuses_a_place_of_another_kind(tmp_path: Path) -> None:
    done = run(str(tmp_path / "w.h5"), "--network", "atlas-unet", "--out", str(tmp_path / "w.pt"))
    assert done.exit_code == InputError.exit_code
