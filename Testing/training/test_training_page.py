"""The page of the training package: the commands of its run in short work as they stand there, with fewer patients."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("lightning", reason="training needs lightning, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

from strokeseg.models import read_card
from strokeseg_training.cli import app

PAGE = Path(__file__).parents[2] / "Training" / "README.md"
TINY = [
    "network.arguments.channels=[4,8]",
    "stages=[{steps: 1}]",
    "validation.every=1",
    "threads=1",
    "tensorboard=false",
]


def commands():
    """The block under "A run in short", as words, a command each."""
    block = PAGE.read_text(encoding="utf-8").split("A run in short")[1].split("\n\n")[1]
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines]


def test_the_run_in_short_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    said = commands()
    assert [words[0] for words in said] == ["bank", "bank", "fit", "export", "calibrate", "exam"]
    for words in said:
        if words[0] == "bank":
            words[words.index("--count") + 1] = "1"
        if words[0] == "fit":
            words.extend([*(w for s in TINY for w in ("--set", s)), "--device", "cpu"])
        if words[0] in ("calibrate", "exam"):
            # 64 patients each: the bundled models take the exam in a test of their own.
            assert words[1:] == ["MODEL"]
            continue
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}"
    card = read_card(tmp_path / "MODEL")
    assert (card.name, card.origin["training_data"][0]["patients"]) == ("dwi-adc", 1)
