"""The published networks for slices from card to result: export, both runtimes, the way back to the scan's own grid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export needs torch, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")

from published_cards import PUBLISHED, published_card  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from strokeseg.cli import app  # noqa: E402
from strokeseg.models import parse_card, read_card  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg.runtime import open_runtime  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402

# As wide and as deep in levels as published, with fewer units: what a graph can get wrong is in one of each.
FEW_UNITS = {"lesion-net": {"depths": [2, 1, 1, 1]}}
# Intensities of the slab below: healthy tissue, main lesion and sub-lesion.
HEALTHY, MAIN, SUB = (40.0, 160.0), 250.0, 330.0


@dataclass(frozen=True)
class Home:
    """The models, and a scan of four slices of a brain on a grid that is stored left to right and upside down."""

    models: Path
    scan: Path
    brain: Path
    image: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    place = tmp_path_factory.mktemp("slices")
    x, y, z = np.indices((80, 90, 6))
    brain = ((x - 40) / 30) ** 2 + ((y - 45) / 36) ** 2 < 1
    brain &= (z > 0) & (z < 5)
    # Healthy tissue of two values, so that the lesions lie within four standard deviations.
    image = np.where(brain, np.where(x < 40, *HEALTHY) + 5 * np.sin(x / 3) * np.cos(y / 4), 0.0)
    image[20:28, 40:52, 2:4] = MAIN
    image[52:56, 30:36, 3] = SUB
    affine = np.array([[-1.0, 0, 0, 39], [0, 1, 0, -44], [0, 0, -1, 2], [0, 0, 0, 1]])
    for name, array in (("scan", image.astype(np.float32)), ("brain", brain.astype(np.uint8))):
        nib.Nifti1Image(array, affine).to_filename(place / f"{name}.nii")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("STROKESEG_HOME", str(place / "home"))
        monkeypatch.setenv("STROKESEG_THREADS", "1")
        yield Home(place / "home" / "models", place / "scan.nii", place / "brain.nii", image, affine)
    torch.set_num_threads(before)


def segmented(home: Home, model: str, out: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Mask and probability of any lesion as written, and the report of the run."""
    role = PUBLISHED[model]["reference_role"]
    files = [f"--{role}", str(home.scan), "--brain-mask", str(home.brain)]
    done = CliRunner().invoke(app, ["segment", *files, "--model", model, "--device", "cpu", "--out", str(out)])
    assert done.exit_code == 0, done.output
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return nib.load(out / "lesion_mask.nii.gz"), nib.load(out / "lesion_probability.nii.gz"), run


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_card_and_the_network_fit_each_other(name: str) -> None:
    card = parse_card({**published_card(name), "runtime": "openvino", "files": []})
    form = form_of(build(name))
    assert form.in_channels == len(card.preparation.channels)
    assert card.preparation.multiple == form.multiple
    assert card.input_shape is not None
    assert not any(s % m for s, m in zip(card.input_shape, form.multiples, strict=True))
    assert (card.strategy, card.window) == ("slices", None)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_random_model_is_exported_runs_in_both_runtimes_and_segments_a_scan_on_its_own_grid(
    name: str, home: Home, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    arguments = FEW_UNITS.get(name, {})
    network = build(name, **arguments).eval()
    # Small slices here, of two sizes that differ: the published size is that of the benchmark.
    size = [64, 96, 1] if name == "lesion-net" else [96, 128, 1]
    done = export_model(network, published_card(name, arguments, input_shape=size), home.models / name)
    assert done.card.runtime == "openvino"
    assert done.runtimes is not None
    assert done.runtimes < 4e-4
    # Another number of slices than those that the export tried.
    batch = np.random.default_rng(1).standard_normal((3, 1, *size), dtype=np.float32)
    results = []
    for runtime in ("openvino", "torch"):
        opened = open_runtime(read_card(home.models / name), "cpu", runtime=runtime, threads=1)
        results.append(opened.run(batch)["lesion"])
        opened.close()
    assert results[0].shape == (3, len(done.card.classes) + (len(done.card.classes) > 1), *size)
    assert np.abs(results[0] - results[1]).max() < 4e-4

    mask, probability, run = segmented(home, name, tmp_path / "out")
    assert run["strategy"] == "slices"
    for image in (mask, probability):
        assert image.shape == home.image.shape
        np.testing.assert_allclose(image.affine, home.affine, atol=1e-5)
    inside = nib.load(home.brain).get_fdata() > 0
    assert set(np.unique(mask.get_fdata())) <= {0, *range(1, len(done.card.classes) + 1)}
    assert not mask.get_fdata()[~inside].any()
    assert 0 < probability.get_fdata()[inside].mean() < 1


def test_main_and_sub_lesion_come_back_to_their_own_voxels(home: Home, tmp_path: Path) -> None:
    """A network set by hand: logits 0, z - a and 2 z - a - b make what is above a main, above b sub-lesion."""
    inside = nib.load(home.brain).get_fdata() > 0
    values = home.image[inside]
    levels = [float((level - values.mean()) / values.std()) for level in (HEALTHY[1], MAIN, SUB)]
    a, b = (float(np.float16((low + high) / 2)) for low, high in pairwise(levels))
    assert levels[0] < a < levels[1] < b < levels[2] < 4.0  # the channel is cut at 4
    arguments = {"channels": [2]}
    network = build("atlas-unet", **arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.down[0].first.weight[0, 0, 1, 1] = network.down[0].second.weight[0, 0, 1, 1] = 1.0
        network.head.weight[1, 0], network.head.weight[2, 0] = 1.0, 2.0
        network.head.bias.copy_(torch.tensor([0.0, -a, -a - b]))
    changed = {"name": "by-hand", "input_shape": [64, 48, 1]}  # smaller than the brain: several a slice
    export_model(network, published_card("atlas-unet", arguments, **changed), home.models / "by-hand")
    files = ["--t1", str(home.scan), "--brain-mask", str(home.brain)]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["segment", *files, "--model", "by-hand", "--device", "cpu", "--out", str(out)])
    assert done.exit_code == 0, done.output
    mask = nib.load(out / "lesion_mask.nii.gz").get_fdata()
    expected = np.where(inside & (home.image == MAIN), 1, np.where(inside & (home.image == SUB), 2, 0))
    assert [(expected == k).sum() for k in (1, 2)] == [8 * 12 * 2, 4 * 6]
    np.testing.assert_array_equal(mask, expected)
