"""A published network that was exported and added: `strokeseg models show` tells its card."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="the export needs torch, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

from tiny_model import tiny_card  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg import cli_models  # noqa: E402
from strokeseg.networks import build  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402


def test_the_card_of_an_added_published_network_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cli_models.console.out, "width", 400)
    arguments = {"features": 4, "levels": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = build("attention-unet-3d", **arguments).eval()
    fields = {"network": "attention-unet-3d", "arguments": arguments, "multiple": 4, "strategy": "windows"}
    card = tiny_card("attention", **fields, window=[64, 64, 48], title="Attention U-Net of ours")
    done = export_model(network, card, tmp_path / "made" / "attention")

    def say(*given):
        with cli_models.console.out.capture() as out:
            ended = CliRunner().invoke(cli_models.app, [str(g) for g in given])
        assert ended.exit_code == 0, ended.output
        return out.get() + ended.stdout

    assert say("add", tmp_path / "made" / "attention") == "Added: attention (Attention U-Net of ours).\n"
    shown = dict(line.split(": ", 1) for line in say("show", "attention").splitlines())
    assert (shown["title"], shown["network"], shown["runtime"]) == (
        "Attention U-Net of ours", "attention-unet-3d", "openvino",
    )  # fmt: skip
    assert json.loads(shown["network arguments"]) == arguments
    assert [(i["role"], i["required"]) for i in json.loads(shown["inputs"])] == [("dwi", True), ("adc", True)]
    assert (json.loads(shown["window"]), json.loads(shown["preparation"])["channels"]) == (
        [64, 64, 48], ["dwi_ratio", "adc"],
    )  # fmt: skip
    assert shown["runtime reason"] == (
        "Its graph runs on CPUs without PyTorch; for random input its logits differ from PyTorch's by up to "
        f"{done.runtimes:.2g}."
    )
    assert json.loads(shown["limits"]) == ["It finds nothing that means anything."]
