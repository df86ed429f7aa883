"""From a network to a model folder: what is in it, that both runtimes agree, and what is refused."""

import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export needs torch, which is not installed")
onnx = pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
pytest.importorskip("monai", reason="the export's tests need monai, which is not installed")

import tiny_model as tiny  # noqa: E402

from strokeseg.errors import Cancelled, InputError, ModelError  # noqa: E402
from strokeseg.events import Monitor  # noqa: E402
from strokeseg.models import ModelStore, read_card  # noqa: E402
from strokeseg.networks import build, registry  # noqa: E402
from strokeseg.runtime import open_runtime  # noqa: E402
from strokeseg_training import _export_check, export  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402

SMALL = {"in_channels": 2, "channels": [4, 8]}

pytestmark = pytest.mark.usefixtures("one_thread")


def seeded(name="residual-unet", seed=0, **arguments):
    torch.manual_seed(seed)
    return build(name, **arguments)


def small_card(**changes):
    return tiny.tiny_card(**{"arguments": SMALL, "multiple": 2, **changes})


def random_input(*shape):
    return np.random.default_rng(5).standard_normal(shape, dtype=np.float32)


def run(card, batch, runtime):
    opened = open_runtime(card, "cpu", runtime=runtime, threads=1)
    results = opened.run(batch)
    opened.close()
    return results


def header_of(folder):
    data = (folder / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), 8 + length, len(data)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The network of published size, exported once."""
    network = seeded()
    folder = tmp_path_factory.mktemp("models") / "published"
    done = export_model(network, tiny.tiny_card("published", multiple=16), folder)
    return network, done, folder


def test_the_published_network_is_a_small_graph_and_ten_megabytes_of_weights(published):
    _, done, folder = published
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "network.onnx", "weights.safetensors"]
    assert (folder / "network.onnx").stat().st_size < 60_000
    # 5,103,601 halves and a header of names.
    assert 10_207_202 < (folder / "weights.safetensors").stat().st_size < 10_220_000
    assert done.values == 5_103_601
    card = read_card(folder)
    assert (card.runtime, card.outputs, card.input_shape) == ("openvino", ("lesion",), None)
    assert card.runtime_reason == (
        "Its graph runs on CPUs without PyTorch; for random input its logits differ from PyTorch's by up to "
        f"{done.runtimes:.2g}."
    )
    assert [f.name for f in card.files] == ["network.onnx", "weights.safetensors"]


def test_every_weight_of_the_graph_points_to_its_place_in_the_weights_file_and_is_cast_to_float(published):
    network, _, folder = published
    model = onnx.load(folder / "network.onnx", load_external_data=False)
    header, start, size = header_of(folder)
    assert model.opset_import[0].version == 18
    assert set(header) == set(network.state_dict())
    assert len(model.graph.initializer) == len(header)
    casts = {n.input[0]: n for n in model.graph.node if n.op_type == "Cast"}
    end = start
    for tensor in model.graph.initializer:
        about = {e.key: e.value for e in tensor.external_data}
        entry = header[tensor.name.removeprefix("stored.")]
        begin, stop = entry["data_offsets"]
        assert about == {
            "location": "weights.safetensors",
            "offset": str(start + begin),
            "length": str(stop - begin),
        }
        assert tensor.data_type == onnx.TensorProto.FLOAT16
        assert list(tensor.dims) == entry["shape"]
        assert casts[tensor.name].attribute[0].i == onnx.TensorProto.FLOAT
        end = max(end, start + stop)
    assert end == size
    stored = onnx.load(folder / "network.onnx")  # reads the bytes that the pointers name
    values = {t.name.removeprefix("stored."): onnx.numpy_helper.to_array(t) for t in stored.graph.initializer}
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(values[name], tensor.half().numpy())


def test_the_graph_says_neither_where_nor_how_it_was_made(published):
    content = (published[2] / "network.onnx").read_bytes()
    for word in (b"site-packages", b".py", b"ResidualUNet", str(Path(__file__).parents[2]).encode()):
        assert word not in content


def test_both_runtimes_agree_with_each_other_and_nearly_with_the_network(published):
    network, done, _ = published
    assert done.runtimes <= 1e-3
    assert 0 < done.rounding < 0.05 * done.largest_logit
    # Neither a size nor a number of cases of those that the export itself tried.
    batch = random_input(3, 2, 48, 16, 64)
    graph, again = (run(done.card, batch, r)["lesion"] for r in ("openvino", "torch"))
    with torch.no_grad():
        before = network.eval()(torch.from_numpy(batch)).numpy()
    assert np.abs(graph - again).max() < 1e-3
    assert np.abs(graph - before).max() < 0.05
    assert np.abs(before).max() > 1


def test_both_runtimes_agree_where_the_deepest_level_is_one_voxel(tmp_path):
    card = tiny.make_tiny_model(tmp_path / "tiny", channels=(4, 8, 8))
    batch = random_input(1, 2, 4, 4, 4)
    graph, again = (run(card, batch, r)["lesion"] for r in ("openvino", "torch"))
    assert np.abs(graph - again).max() < 1e-3


def test_the_same_weights_give_the_same_bytes_and_other_weights_the_same_graph(tmp_path):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        export_model(seeded(seed=seed, **SMALL), small_card(), tmp_path / name)
    for file in ("card.json", "network.onnx", "weights.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "same" / file).read_bytes()
    assert (tmp_path / "one" / "network.onnx").read_bytes() == (tmp_path / "other" / "network.onnx").read_bytes()
    assert (tmp_path / "one" / "card.json").read_bytes() != (tmp_path / "other" / "card.json").read_bytes()


def test_a_second_output_is_named_in_card_and_graph(tmp_path):
    card = tiny.make_tiny_model(tmp_path / "tiny", channels=(4, 8), tissue=True)
    assert card.outputs == ("lesion", "tissue")
    batch = random_input(2, 2, 8, 6, 4)
    for runtime in ("openvino", "torch"):
        assert {k: v.shape for k, v in run(card, batch, runtime).items()} == {
            "lesion": (2, 1, 8, 6, 4),
            "tissue": (2, 4, 8, 6, 4),
        }


def test_the_linear_model_computes_what_it_says_in_both_runtimes(tmp_path):
    card = tiny.make_linear_model(tmp_path / "linear", offset=0.25)
    batch = random_input(2, 2, 5, 7, 1)
    expected = batch[:, :1] - 1.5 * batch[:, 1:] + 0.25
    for runtime in ("openvino", "torch"):
        np.testing.assert_allclose(run(card, batch, runtime)["lesion"], expected, atol=1e-6)


def test_a_voxel_of_the_convolution_model_sees_exactly_as_far_as_it_says(tmp_path):
    card = tiny.make_convolution_model(tmp_path / "convolution")
    batch = random_input(1, 2, 15, 9, 9)
    other = batch.copy()
    other[0, :, 7, 4, 4] += 1
    change = np.abs(run(card, other, "openvino")["lesion"] - run(card, batch, "openvino")["lesion"])[0, 0]
    far = np.abs(np.arange(15) - 7) > tiny.CONVOLUTION_REACH_VOXELS
    assert change[far].max() == 0
    assert change[7 + tiny.CONVOLUTION_REACH_VOXELS].max() > 1e-6


@pytest.mark.parametrize(
    ("network", "arguments", "changes"),
    [
        (
            "monai:SegResNet",
            {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
            {"multiple": 2},
        ),
        # What batch normalisation remembers belongs to the weights.
        ("monai:UNet", {"channels": [4, 8], "strides": [2], "norm": "BATCH"}, {"multiple": 2}),
        ("monai:UNet", {"spatial_dims": 2, "channels": [4, 8], "strides": [2]}, {"multiple": 2, "strategy": "slices"}),
        ("monai:BasicUNet", {"features": [4, 4, 4, 4, 8, 4]}, {"multiple": 16}),
    ],
)
def test_networks_of_monai_are_exported_with_a_graph(tmp_path, network, arguments, changes):
    arguments = {"spatial_dims": 3, "in_channels": 2, "out_channels": 1, **arguments}
    card = tiny.tiny_card("m", network=network, arguments=arguments, **changes)
    done = export_model(seeded(network, **arguments), card, tmp_path / "m")
    assert done.card.runtime == "openvino"
    assert f"differ from PyTorch's by up to {done.runtimes:.2g}." in done.card.runtime_reason
    assert done.runtimes < 1e-4
    assert (tmp_path / "m" / "network.onnx").stat().st_size < 60_000


def test_a_tensor_under_two_names_is_stored_once(tmp_path):
    arguments = {
        "spatial_dims": 3,
        "in_channels": 2,
        "out_channels": 1,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    }
    network = seeded("monai:DynUNet", **arguments)
    card = tiny.tiny_card("d", network="monai:DynUNet", arguments=arguments)
    done = export_model(network, card, tmp_path / "d")
    assert done.values == sum(p.numel() for p in network.parameters())
    header, start, size = header_of(tmp_path / "d")
    assert size - start == 2 * done.values
    assert len(header) < len(network.state_dict())
    assert done.runtimes < 1e-3


def test_a_card_with_one_size_gives_a_graph_of_that_size(tmp_path):
    done = export_model(seeded(**SMALL), small_card(input_shape=[8, 6, 4]), tmp_path / "m")
    assert done.sizes == [(8, 6, 4)]
    model = onnx.load(tmp_path / "m" / "network.onnx", load_external_data=False)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [0, 2, 8, 6, 4]
    # As many windows at a time as the engine likes.
    assert run(done.card, random_input(3, 2, 8, 6, 4), "openvino")["lesion"].shape == (3, 1, 8, 6, 4)


@pytest.mark.parametrize("make", [tiny.make_tiny_model, tiny.make_linear_model, tiny.make_convolution_model])
def test_what_is_exported_passes_the_check_of_the_store_and_is_taken_in(tmp_path, make):
    card = make(tmp_path / "m")
    store = ModelStore(tmp_path / "bundled", tmp_path / "own")
    assert store.add(tmp_path / "m").name == card.name
    assert store.check(card.name).files == card.files


@pytest.mark.skipif(importlib.util.find_spec("einops") is None, reason="einops, which transformers need, is missing")
def test_a_transformer_is_exported_for_the_size_it_was_built_for(tmp_path):
    arguments = {"in_channels": 2, "out_channels": 1, "img_size": [32, 32, 32], "hidden_size": 24, "mlp_dim": 24}
    arguments |= {"num_heads": 2, "feature_size": 4}
    card = tiny.tiny_card("u", network="monai:UNETR", arguments=arguments, multiple=16)
    done = export_model(seeded("monai:UNETR", **arguments), card, tmp_path / "u")
    assert done.card.input_shape == (32, 32, 32)
    assert done.runtimes < 1e-3


# --- Checkpoints


def checkpoints(network):
    state = network.state_dict()
    other, one = {k: v + 1 for k, v in state.items()}, torch.ones(1)
    return {
        "plain.pt": state,
        "inside.ckpt": {"epoch": 3, "state_dict": {**{f"network.{k}": v for k, v in state.items()}, "loss.w": one}},
        "compiled.pt": {f"_orig_mod.{k}": v for k, v in state.items()},
        "averaged.pt": {"state_dict": other, "ema_state_dict": state},
        "halves.pt": {"model": {k: v.bfloat16() for k, v in state.items()}},
    }


@pytest.mark.parametrize("name", ["plain.pt", "inside.ckpt", "compiled.pt", "averaged.pt", "halves.pt"])
def test_a_checkpoint_is_read_wherever_programs_put_the_weights(tmp_path, name):
    network = seeded(**SMALL)
    torch.save(checkpoints(network)[name], tmp_path / name)
    done = export_model(tmp_path / name, small_card(), tmp_path / "m")
    batch = random_input(1, 2, 8, 8, 8)
    with torch.no_grad():
        before = network.eval()(torch.from_numpy(batch)).numpy()
    allowed = 0.3 if name == "halves.pt" else 0.02
    assert np.abs(run(done.card, batch, "openvino")["lesion"] - before).max() < allowed


def test_the_weights_of_a_model_can_be_exported_again(tmp_path):
    first = export_model(seeded(**SMALL), small_card(), tmp_path / "first")
    again = export_model(tmp_path / "first" / "weights.safetensors", small_card(), tmp_path / "again")
    assert again.card.files == first.card.files
    assert again.rounding == 0


class _Harmful:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False], ids=["checkpoint", "plain pickle"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, zipped):
    marker = tmp_path / "was-run"
    path = tmp_path / "bad.pt"
    if zipped:
        torch.save({"state_dict": seeded(**SMALL).state_dict(), "extra": _Harmful(marker)}, path)
    else:
        path.write_bytes(pickle.dumps(_Harmful(marker)))
    with pytest.raises(ModelError, match="could run code"):
        export_model(path, small_card(), tmp_path / "m")
    assert not marker.exists()
    pickle.loads(pickle.dumps(_Harmful(marker)))
    assert marker.exists(), "the trap works where it is sprung"


@pytest.mark.parametrize("name", ["bad.safetensors", "cut.pt", "text.pt", "empty.pt"])
def test_a_damaged_checkpoint_is_refused(tmp_path, name):
    whole = tmp_path / "whole.pt"
    torch.save(seeded(**SMALL).state_dict(), whole)
    content = {
        "bad.safetensors": pickle.dumps({"a": 1}),
        "cut.pt": whole.read_bytes()[:-2000],
        "text.pt": b"no checkpoint at all",
        "empty.pt": b"",
    }[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError):
        export_model(tmp_path / name, small_card(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match="It holds 'epoch', 'optimizer'"):
        export_model(tmp_path / "c.pt", small_card(), tmp_path / "m")
    with pytest.raises(InputError, match=r"There is no checkpoint 'absent\.pt'"):
        export_model(tmp_path / "absent.pt", small_card(), tmp_path / "m")


# --- Refusals


def changed(name, value):
    state = seeded(**SMALL).state_dict()
    state[name] = state[name].clone()
    state[name].flatten()[0] = value
    return state


def without(name):
    state = seeded(**SMALL).state_dict()
    del state[name]
    return state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda: changed("heads.lesion.bias", float("nan")), "'heads.lesion.bias' holds values that are no finite"),
        (lambda: changed("down.1.second.weight", float("inf")), "'down.1.second.weight' holds values"),
        (lambda: changed("heads.lesion.bias", 70_000.0), "reaches 70000; weights are kept in half precision"),
        (lambda: without("heads.lesion.bias"), "The weights have no 'heads.lesion.bias'"),
        (lambda: {**changed("heads.lesion.bias", 0.0), "more": torch.zeros(1)}, "The network has no 'more'"),
        (lambda: seeded(in_channels=2, channels=[4, 4]).state_dict(), "has the shape"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(tmp_path, state, words):
    with pytest.raises(ModelError) as refused:
        export_model(state(), small_card(), tmp_path / "m")
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_half_is_stored(tmp_path):
    done = export_model(changed("heads.lesion.bias", 65_504.0), small_card(), tmp_path / "m")
    assert done.largest_logit > 65_000


TWO_CLASSES = [
    {**tiny.tiny_card()["classes"][0], "value": 1},
    {**tiny.tiny_card()["classes"][0], "value": 2, "name": "penumbra"},
]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": ("adc",)}, "It takes 2 channels, the card names 1: adc"),
        ({"multiple": 1}, "Set 'preparation.multiple' in the card to 2"),
        ({"window": [32, 32, 31]}, "'window' is (32, 32, 31)"),
        ({"classes": TWO_CLASSES, "decision": {"rule": "argmax"}}, "the card promises 'lesion' (1, 3, "),
        ({"outputs": ["lesion", "tissue"]}, "It has the outputs lesion"),
        ({"network": "residual-unt"}, "Did you mean 'residual-unet'?"),
        ({"arguments": {**SMALL, "chanels": [4]}}, "Did you mean 'channels'?"),
        ({"titel": "x"}, "did you mean 'title'?"),
        ({"runtime": "threshold"}, "There is nothing to export"),
    ],
)
def test_a_card_that_does_not_fit_its_network_is_refused(tmp_path, changes, words):
    with pytest.raises(ModelError) as refused:
        export_model(seeded(**SMALL), small_card(**changes), tmp_path / "m")
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


class _Chain(torch.nn.Module):
    """Convolutions of one weight each."""

    def __init__(self, *weights, ending=lambda x: x):
        super().__init__()
        self.parts = torch.nn.ModuleList(torch.nn.Conv3d(1, 1, 1, bias=False) for _ in weights)
        for part, weight in zip(self.parts, weights, strict=True):
            torch.nn.init.constant_(part.weight, weight)
        self.ending = ending

    def forward(self, batch):
        for part in self.parts:
            batch = part(batch)
        return self.ending(batch)


def graph_card(**changes):
    return tiny.tiny_card(**{"network": "graph", "channels": ("adc",), "multiple": 1, **changes})


def test_weights_that_vanish_in_half_precision_are_refused(tmp_path):
    assert float(torch.tensor(1e-8).half()) == 0
    with pytest.raises(ModelError, match="lose too much in half precision"):
        export_model(_Chain(1e-8, 6e4, 6e4), graph_card(), tmp_path / "m")


def test_output_that_is_no_number_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"100\.0% of 'lesion' are no finite numbers"):
        export_model(_Chain(1.0, ending=lambda x: torch.log(-1 - x.abs())), graph_card(), tmp_path / "m")


# --- Without a graph, and graphs alone


class _Spectral(torch.nn.Module):
    """A Fourier transform has no ONNX form in opset 18 by this exporter."""

    def __init__(self, in_channels=2):
        super().__init__()
        self.form = form_of_two()
        self.mix = torch.nn.Conv3d(in_channels, 1, 1)

    def forward(self, batch):
        return torch.fft.ifftn(torch.fft.fftn(self.mix(batch), dim=(2, 3, 4)), dim=(2, 3, 4)).real


def form_of_two():
    from strokeseg.networks import NetworkForm

    return NetworkForm(in_channels=2)


def test_a_network_without_onnx_form_is_exported_for_pytorch_with_the_reason(tmp_path, monkeypatch, capfd):
    module = types.ModuleType("strokeseg_spectral_test")
    module.Spectral = _Spectral
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry._OURS, "spectral", (module.__name__, "Spectral"))
    done = export_model(seeded("spectral"), tiny.tiny_card("s", network="spectral", multiple=1), tmp_path / "s")
    assert done.card.runtime == "torch"
    assert "has no ONNX form" in done.card.runtime_reason
    assert "fft" in done.card.runtime_reason
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["card.json", "weights.safetensors"]
    assert done.runtimes is None
    assert capfd.readouterr().out == "", "the exporter's own prints would spoil --format json"
    assert open_runtime(done.card, "cpu").run(random_input(1, 2, 4, 4, 4))["lesion"].shape == (1, 1, 4, 4, 4)


def test_a_graph_on_which_the_runtimes_disagree_is_not_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(_export_check, "RUNTIME_TOLERANCE", 0.0)
    done = export_model(seeded(**SMALL), small_card(), tmp_path / "m")
    assert done.card.runtime == "torch"
    assert "its logits differ by up to" in done.card.runtime_reason
    assert not (tmp_path / "m" / "network.onnx").exists()


def test_what_neither_runtime_can_run_is_refused(tmp_path):
    with pytest.raises(ModelError, match="PyTorch cannot either"):
        export_model(_Spectral(), graph_card(channels=("dwi_ratio", "adc")), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_becomes_a_bare_graph_and_is_left_as_it_was(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(16, 1, 1))
    done = export_model(network, graph_card(), tmp_path / "g")
    assert network.training
    assert done.card.network == "graph"
    batch = random_input(2, 1, 7, 5, 3)
    expected = network(torch.from_numpy(batch)).detach().numpy()
    assert np.abs(run(done.card, batch, "openvino")["lesion"] - expected).max() < 5e-3


def own_graph(path, ending=None, names=("x", "y"), shape=(1, 1, 8, 8, 8)):
    """An ONNX file as somebody else would make it: weights inside, names of his own."""
    torch.manual_seed(3)
    layers = [torch.nn.Conv3d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(16, 16, 3, padding=1)]
    layers += [torch.nn.Conv3d(16, 1, 1), *([ending] if ending else [])]
    network = torch.nn.Sequential(*layers).eval()
    axes = {name: {0: "n", 2: "a", 3: "b", 4: "c"} for name in names}
    torch.onnx.export(
        network, (torch.zeros(shape),), path, input_names=[names[0]], output_names=[names[1]], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip
    return network


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("names", [("x", "y"), ("lesion", "input")], ids=["other names", "names swapped"])
def test_a_graph_file_is_taken_as_it_is_with_its_weights_beside_it(tmp_path, names):
    network = own_graph(tmp_path / "own.onnx", names=names)
    done = export_model(tmp_path / "own.onnx", graph_card(), tmp_path / "g")
    assert done.runtimes is None
    assert "no network in PyTorch to compare it with" in done.card.runtime_reason
    assert 0 < done.rounding < 5e-3
    assert onnx.load(tmp_path / "own.onnx").opset_import[0].version == 17
    assert onnx.load(tmp_path / "g" / "network.onnx").opset_import[0].version == 18
    assert (tmp_path / "g" / "network.onnx").stat().st_size < 4_000
    header, _, _ = header_of(tmp_path / "g")
    assert [e["shape"] for e in header.values()] == [[16, 1, 3, 3, 3], [16, 16, 3, 3, 3]]  # the others are tiny
    batch = random_input(2, 1, 6, 5, 9)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    assert np.abs(run(done.card, batch, "openvino")["lesion"] - expected).max() < 5e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_graph_file_that_does_not_fit_is_refused(tmp_path):
    own_graph(tmp_path / "sigmoid.onnx", ending=torch.nn.Sigmoid())
    with pytest.raises(ModelError, match="Its last operation is a Sigmoid; the engine expects logits"):
        export_model(tmp_path / "sigmoid.onnx", graph_card(), tmp_path / "g")
    own_graph(tmp_path / "own.onnx")
    with pytest.raises(ModelError, match="It takes 1 channels, the card names 2"):
        export_model(tmp_path / "own.onnx", graph_card(channels=("dwi_ratio", "adc")), tmp_path / "g")
    with pytest.raises(ModelError, match="It has 1 outputs; the card names 2"):
        export_model(tmp_path / "own.onnx", graph_card(outputs=["lesion", "tissue"]), tmp_path / "g")
    (tmp_path / "text.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"The graph 'text\.onnx' cannot be read"):
        export_model(tmp_path / "text.onnx", graph_card(), tmp_path / "g")
    with pytest.raises(ModelError, match="cannot be made of weights alone"):
        export_model({}, graph_card(), tmp_path / "g")
    assert not (tmp_path / "g").exists()


# --- Whole or not at all


@pytest.mark.parametrize("where", ["half_weights", "_graph", "_in_openvino"])
def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(seeded(**SMALL), small_card(), tmp_path / "new" / "deep" / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["read", "network", "torch", "graph", "openvino", "check"])
def test_a_wish_to_stop_in_any_stage_is_noticed_and_leaves_nothing(tmp_path, stage):
    reached = []
    monitor = Monitor(lambda event: reached.append(event.stage), lambda: stage in reached)
    with pytest.raises(Cancelled):
        export_model(seeded(**SMALL), small_card(), tmp_path / "m", monitor=monitor)
    assert reached[-1] == stage
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_cleared_by_the_next_but_not_what_a_living_one_writes(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = os.getppid()
    for number in (dead.pid, living):
        (tmp_path / f".partial-m-{number}").mkdir()
    export_model(seeded(**SMALL), small_card(), tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".partial-m-{living}", "m"]


def test_nothing_is_ever_written_over(tmp_path):
    (tmp_path / "m").mkdir()
    export_model(seeded(**SMALL), small_card(), tmp_path / "m")  # an empty folder is free
    before = (tmp_path / "m" / "card.json").read_bytes()
    with pytest.raises(InputError, match="never written over something"):
        export_model(seeded(seed=1, **SMALL), small_card(), tmp_path / "m")
    assert (tmp_path / "m" / "card.json").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        export_model(seeded(**SMALL), small_card(), tmp_path / "file")
