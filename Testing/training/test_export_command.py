"""`strokeseg-train export`: what the user types, reads, and gets as exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="the export needs torch, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

import tiny_model as tiny  # noqa: E402

from strokeseg.models import ModelStore, read_card  # noqa: E402
from strokeseg.networks import build  # noqa: E402
from strokeseg.runtime import open_runtime  # noqa: E402
from strokeseg_training.cli import app  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402

SMALL = {"in_channels": 2, "channels": [4, 8]}
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def given(tmp_path):
    """A checkpoint and a card in a folder of their own."""
    torch.manual_seed(0)
    torch.save(build("residual-unet", **SMALL).state_dict(), tmp_path / "c.pt")
    card = tiny.tiny_card("mine", arguments=SMALL, multiple=2)
    (tmp_path / "card.json").write_text(json.dumps(card))
    return tmp_path


def command(folder, *more, card="card.json", checkpoint="c.pt"):
    arguments = ["export", "--card", str(folder / card), "--checkpoint", str(folder / checkpoint)]
    return CliRunner().invoke(app, [*arguments, "--out", str(folder / "mine"), *more])


def test_a_model_is_made_and_described(given):
    done = command(given)
    assert done.exit_code == 0, done.output
    assert read_card(given / "mine").runtime == "openvino"
    for words in ("residual-unet", "network.onnx", "weights.safetensors", "OpenVINO and PyTorch differ by up to"):
        assert words in done.stdout
    assert f"strokeseg models add {given / 'mine'}" in done.stdout


def test_machines_get_one_json_object(given):
    done = command(given, "--format", "json")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert (result["event"], result["model"], result["runtime"]) == ("result", "mine", "openvino")
    assert [f["name"] for f in result["files"]] == ["network.onnx", "weights.safetensors"]
    assert result["difference_of_runtimes"] <= 1e-3


def test_network_and_arguments_may_be_said_on_the_command_line(given):
    card = json.loads((given / "card.json").read_text())
    (given / "card.json").write_text(
        json.dumps({**card, "network": "monai:UNet", "network_arguments": {"act": "RELU"}})
    )
    done = command(given, "--network", "residual-unet", "--set", "in_channels=2", "--set", "channels=[4, 8]")
    assert done.exit_code == 0, done.output
    written = read_card(given / "mine")
    assert (written.network, written.network_arguments) == ("residual-unet", SMALL)


def test_set_alone_changes_single_arguments_of_the_card(given):
    done = command(given, "--set", "channels=[4, 8, 8]")
    assert done.exit_code == 4
    assert "multiple" in done.output or "weights have no" in done.output


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"checkpoint": "absent.pt"}, 3, "There is no checkpoint 'absent.pt'"),
        ({"card": "absent.json"}, 3, "The card 'absent.json' cannot be read"),
        ({"card": "c.pt"}, 3, "it is not valid JSON text"),
        ({"checkpoint": "card.json"}, 4, "The checkpoint 'card.json'"),
    ],
)
def test_an_error_has_three_parts_and_the_exit_code_of_the_engine(given, more, code, words):
    done = command(given, **more)
    assert done.exit_code == code
    for part in ("Error:", "Why:", "What to do:", words):
        assert part in done.output
    assert "Traceback" not in done.output
    assert not (given / "mine").exists()
    as_json = command(given, "--format", "json", **more)
    assert json.loads(as_json.stdout)["exit_code"] == code == as_json.exit_code


@pytest.mark.parametrize("more", [["--set", "channels"], ["--set", "=3"], ["--sett", "a=1"]])
def test_a_wrong_command_line_is_exit_code_2(given, more):
    assert command(given, *more).exit_code == 2
    assert not (given / "mine").exists()


def test_help_does_not_load_pytorch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom strokeseg_training.cli import app\n"
        "done = CliRunner().invoke(app, ['export', '--help'])\n"
        "print(done.exit_code, '--checkpoint' in done.output, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.split() == ["0", "True", "False"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program can answer")
def test_a_request_to_terminate_undoes_what_was_begun(given):
    # The network of published size, so that there is time to be interrupted.
    torch.save(build("residual-unet").state_dict(), given / "c.pt")
    (given / "card.json").write_text(json.dumps(tiny.tiny_card("mine", multiple=16)))
    arguments = ["--card", given / "card.json", "--checkpoint", given / "c.pt", "--out", given / "mine"]
    started = subprocess.Popen(
        [sys.executable, "-m", "strokeseg_training.cli", "export", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 120
    while not any(p.name.startswith(".partial-") for p in given.iterdir()):
        assert started.poll() is None, started.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    started.send_signal(signal.SIGTERM)
    output, _ = started.communicate(timeout=120)
    assert started.returncode == 130, output
    assert "The run was cancelled." in output
    assert sorted(p.name for p in given.iterdir()) == ["c.pt", "card.json"]


def environment():
    paths = [str(ROOT / "StrokeSegExtension"), str(ROOT / "Training")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def documented_card():
    text = (ROOT / "StrokeSegExtension" / "docs" / "bring-your-own-model.md").read_text(encoding="utf-8")
    return json.loads(text.split("```json\n")[1].split("```")[0])


def test_the_example_of_the_documentation_works_by_name_as_a_graph_file_and_from_python(tmp_path):
    nets = pytest.importorskip("monai.networks.nets", reason="the example needs monai, which is not installed")
    torch.manual_seed(0)
    network = nets.SegResNet(spatial_dims=3, in_channels=2, out_channels=1, init_filters=8)
    torch.save(network.state_dict(), tmp_path / "segresnet.pt")
    (tmp_path / "card.json").write_text(json.dumps(documented_card()))
    done = command(tmp_path, checkpoint="segresnet.pt")
    assert done.exit_code == 0, done.output

    # As a bare graph the card has no arguments of the network.
    graph = {**documented_card(), "name": "my-graph", "network": "graph", "network_arguments": {}}
    export_model(network, graph, tmp_path / "my-graph")
    batch = np.random.default_rng(0).standard_normal((1, 2, 16, 24, 32), dtype=np.float32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(batch)).numpy()
    store = ModelStore(tmp_path / "bundled", tmp_path / "own")
    for folder in ("mine", "my-graph"):
        card = store.add(tmp_path / folder)
        assert np.abs(open_runtime(card, "cpu").run(batch)["lesion"] - expected).max() < 0.01
    assert store.names() == ["my-graph", "my-segresnet"]

    # The graph of one model is an ONNX file like any other; its weights are read from beside it.
    again = CliRunner().invoke(
        app,
        ["export", "--card", str(tmp_path / "card.json"), "--checkpoint", str(tmp_path / "my-graph" / "network.onnx"),
         "--network", "graph", "--out", str(tmp_path / "again")],
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    opened = open_runtime(read_card(tmp_path / "again"), "cpu")
    assert np.abs(opened.run(batch)["lesion"] - expected).max() < 0.01
