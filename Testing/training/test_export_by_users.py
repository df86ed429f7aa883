"""What people bring who follow the documentation: every usual ONNX file runs afterwards, every slip is told."""

import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="the export needs torch, which is not installed")
onnx = pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
nets = pytest.importorskip("monai.networks.nets", reason="the examples need monai, which is not installed")

import tiny_model as tiny  # noqa: E402

from strokeseg.errors import ModelError  # noqa: E402
from strokeseg.models import ModelStore  # noqa: E402
from strokeseg.networks import build  # noqa: E402
from strokeseg.runtime import open_runtime  # noqa: E402
from strokeseg_training.cli import app  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402

ROOT = Path(__file__).parents[2]
UNET = {"spatial_dims": 3, "in_channels": 2, "out_channels": 1, "channels": [4, 8], "strides": [2]}

pytestmark = pytest.mark.usefixtures("one_thread")


def unet():
    torch.manual_seed(0)
    return nets.UNet(**UNET).eval()


def graph_card(**changes):
    return tiny.tiny_card("g", network="graph", multiple=2, **changes)


def onnx_file(path, network, axes=(), shape=(1, 2, 8, 12, 16)):
    """As PyTorch writes it, with the named axes free."""
    free = {name: {a: "nczyx"[a] for a in axes} for name in ("image", "logits")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says of itself
        torch.onnx.export(
            network, (torch.zeros(shape),), path, input_names=["image"], output_names=["logits"], opset_version=18,
            dynamo=False, dynamic_axes=free if axes else None,
        )  # fmt: skip
    return path


def logits(card, batch):
    opened = open_runtime(card, "cpu", threads=1)
    result = opened.run(batch)["lesion"]
    opened.close()
    return result


# --- ONNX files


@pytest.mark.parametrize("axes", [(), (0,), (2, 3, 4), (0, 2, 3, 4)])
def test_a_graph_runs_by_several_windows_at_a_time_whichever_axes_it_was_exported_with(tmp_path, axes):
    """Without `dynamic_axes` PyTorch fixes the number of cases at one, and the engine runs eight windows at a time."""
    network = unet()
    done = export_model(onnx_file(tmp_path / "g.onnx", network, axes), graph_card(), tmp_path / "g")
    assert done.card.input_shape == (None if 2 in axes else (8, 12, 16))
    batch = np.random.default_rng(0).standard_normal((3, 2, 8, 12, 16), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    assert np.abs(logits(done.card, batch) - expected).max() < 0.01


class _OneCase(torch.nn.Module):
    """Takes the number of cases for one, as traced programs do."""

    def __init__(self, mixing):
        super().__init__()
        self.convolution = torch.nn.Conv3d(2, 1, 1)
        self.mixing = mixing

    def forward(self, batch):
        result = self.convolution(batch)
        if self.mixing:
            return result - result.mean(dim=(0, 2, 3, 4), keepdim=True)
        return result.reshape(1, 1, *result.shape[2:])


@pytest.mark.parametrize("mixing", [False, True], ids=["fails for two", "mixes two"])
def test_a_graph_for_one_case_at_a_time_is_refused(tmp_path, mixing):
    file = onnx_file(tmp_path / "g.onnx", _OneCase(mixing).eval())
    with pytest.raises(ModelError, match="It holds for one case at a time") as refused:
        export_model(file, graph_card(), tmp_path / "g")
    assert "dynamic_axes" in refused.value.next_step
    assert not (tmp_path / "g").exists()


def test_a_graph_with_some_sizes_fixed_is_refused(tmp_path):
    file = onnx_file(tmp_path / "g.onnx", unet(), (0, 2, 3))
    with pytest.raises(ModelError, match=r"the sizes \(any, any, 16\): some axes are fixed") as refused:
        export_model(file, graph_card(), tmp_path / "g")
    assert "three axes" in refused.value.next_step


def test_the_lines_of_somebodys_program_do_not_stay_in_a_graph(tmp_path):
    """The newer exporter of PyTorch writes them into every node."""
    model = onnx.load(onnx_file(tmp_path / "g.onnx", unet()))
    for thing in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.output):
        thing.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "/home/anna/secret.py", line 3')
        thing.doc_string = "/home/anna"
    onnx.save(model, tmp_path / "g.onnx")
    export_model(tmp_path / "g.onnx", graph_card(), tmp_path / "g")
    content = (tmp_path / "g" / "network.onnx").read_bytes()
    assert b"anna" not in content
    assert b"stack_trace" not in content


# --- Networks by name


def test_a_checkpoint_of_monais_own_handler_is_read(tmp_path):
    """Its tutorials save `{"net": network}`."""
    network = unet()
    torch.save({"epoch": 3, "net": network.state_dict()}, tmp_path / "c.pt")
    card = tiny.tiny_card("u", network="monai:UNet", arguments=UNET, multiple=2)
    assert export_model(tmp_path / "c.pt", card, tmp_path / "u").values == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("dimensions", "strategy", "advice"), [(3, "slices", "'whole' or"), (2, "whole", "'slices'")])
def test_volumes_and_slices_are_not_mixed_up(tmp_path, dimensions, strategy, advice):
    arguments = {**UNET, "spatial_dims": dimensions}
    card = tiny.tiny_card("u", network="monai:UNet", arguments=arguments, multiple=2, strategy=strategy)
    with pytest.raises(ModelError, match=f"the card's 'strategy' is '{strategy}'") as refused:
        export_model(build("monai:UNet", **arguments), card, tmp_path / "u")
    assert advice in refused.value.next_step


@pytest.mark.parametrize(
    ("changes", "code", "why", "advice"),
    [
        ({"channels": ("dwi_ratio", "adc", "brain")}, 4, "It takes 2 channels, the card names 3", "Correct"),
        ({"channels": ("dwi_ratio", "flair")}, 4, "channels that this version can make: 'dwi_ratio'", "Correct"),
        ({"channels": ("dwi_ratio", "b0_ratio")}, 4, "'b0' among the required inputs", "Correct the field"),
        ({"arguments": {**UNET, "in_channels": 3}}, 4, "(4, 2, 3, 3, 3), not (4, 3, 3, 3, 3)", "'network_arguments'"),
        ({"arguments": {"in_channels": 2}}, 4, "missing: spatial_dims, out_channels, channels, strides", "Add them"),
        ({"arguments": {**UNET, "width": 8}}, 4, "It has no argument 'width'", "Correct"),
        ({"network": "monai:UNets"}, 4, "These networks can be built: ", "Did you mean 'monai:UNet'?"),
        ({"network": "UNet"}, 4, "These networks can be built: ", "Did you mean 'monai:UNet'?"),
        ({"multiple": 1}, 4, "must be a multiple of 2", "Set 'preparation.multiple' in the card to 2"),
        ({"network": "graph"}, 4, "no valid ONNX model", "name its network instead of 'graph'"),
        ({"text": '{"name": "u",}'}, 3, "it is not valid JSON text", "no comma after the last entry"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_reason_and_next_step(tmp_path, changes, code, why, advice):
    torch.save(unet().state_dict(), tmp_path / "c.pt")
    given = {"network": "monai:UNet", "arguments": UNET, "multiple": 2, **changes}
    text = given.pop("text", None) or json.dumps(tiny.tiny_card("u", **given))
    (tmp_path / "card.json").write_text(text)
    paths = ["--card", tmp_path / "card.json", "--checkpoint", tmp_path / "c.pt", "--out", tmp_path / "u"]
    done = CliRunner().invoke(app, ["export", *map(str, paths)])
    assert done.exit_code == code, done.output
    for words in ("Error:", "Why:", "What to do:", why, advice):
        assert words in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "u").exists()


def test_a_zip_of_the_exported_folder_is_a_model(tmp_path):
    card = tiny.tiny_card("u", network="monai:UNet", arguments=UNET, multiple=2)
    export_model(unet(), card, tmp_path / "u")
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as zipped:
        for path in sorted((tmp_path / "u").iterdir()):
            zipped.write(path, f"u/{path.name}")
    store = ModelStore(tmp_path / "bundled", tmp_path / "own")
    assert store.add(tmp_path / "u.zip").name == "u"
    assert store.check("u").network == "monai:UNet"
    store.remove("u")
    assert store.names() == []


# --- The documentation, word by word


def documented(language, number):
    """A block of the page, counted from 0."""
    text = (ROOT / "StrokeSegExtension" / "docs" / "bring-your-own-model.md").read_text(encoding="utf-8")
    return text.split(f"```{language}\n")[number + 1].split("```")[0]


def test_the_unet_and_the_onnx_file_of_the_documentation_become_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unet_lines = json.loads(documented("json", 1))
    card = {**json.loads(documented("json", 0)), "name": "my-unet", **unet_lines}
    torch.manual_seed(0)
    network = nets.UNet(**unet_lines["network_arguments"])
    by_name = export_model(network, card, "my-unet").card
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(documented("python", 2), {"network": network})
    (tmp_path / "card.json").write_text(json.dumps({**card, "name": "my-graph"}))
    page = (ROOT / "StrokeSegExtension" / "docs" / "bring-your-own-model.md").read_text(encoding="utf-8")
    (command,) = (line for line in page.splitlines() if line.startswith("strokeseg-train") and "network.onnx" in line)
    done = CliRunner().invoke(app, command.split()[1:])
    assert done.exit_code == 0, done.output
    by_graph = ModelStore(tmp_path, tmp_path / "own").card("my-graph")
    assert (by_name.network, by_graph.network, by_graph.input_shape) == ("monai:UNet", "graph", None)
    batch = np.random.default_rng(0).standard_normal((2, 2, 16, 24, 32), dtype=np.float32)
    assert np.abs(logits(by_name, batch) - logits(by_graph, batch)).max() < 1e-3
