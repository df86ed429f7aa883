"""Lesion-Net gives the logits of its published form, in PyTorch and in OpenVINO: full width, few units, trained norms.

The program ``Testing/benchmarks/lesion_net.py`` compares them at full size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="networks in PyTorch need torch, which is not installed")
pytest.importorskip("onnx", reason="the export needs onnx, which is not installed")
pytest.importorskip("openvino", reason="the graph needs openvino, which is not installed")

from published_cards import published_card  # noqa: E402
from published_lesion_net import PublishedLesionNet, train_norms  # noqa: E402

from strokeseg.networks import build  # noqa: E402
from strokeseg.runtime import open_runtime  # noqa: E402
from strokeseg_training.export import export_model  # noqa: E402

ARGUMENTS: dict[str, Any] = {"depths": [2, 1, 1, 1]}
SIZE = (64, 64, 1)
ALLOWED = 1e-4

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    made = build("lesion-net", **ARGUMENTS)
    train_norms(made, seed=1)
    # Models are stored in half precision: what rounding takes away is no difference between the two forms.
    return made.half().float().eval()


@pytest.fixture(scope="module")
def slices() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((3, 1, *SIZE), dtype=np.float32)


@pytest.fixture(scope="module")
def published(network: Any, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the published form."""
    with torch.inference_mode():
        logits = PublishedLesionNet(network).eval()(torch.from_numpy(slices)).numpy()
    # Of order 1, so that the bound says something, and another map for each slice.
    assert 0.3 < np.abs(logits).max() < 30
    assert all(np.abs(logits[a] - logits[b]).max() > 0.05 for a, b in ((0, 1), (0, 2), (1, 2)))
    return np.asarray(logits)


@pytest.mark.parametrize("published_order", [False, True])
def test_pytorch_gives_the_published_forms_logits(
    network: Any, slices: NDArray[np.float32], published: NDArray[np.float32], *, published_order: bool
) -> None:
    network.published_order = published_order
    try:
        with torch.inference_mode():
            found = network(torch.from_numpy(slices)).numpy()
    finally:
        network.published_order = False
    np.testing.assert_allclose(found, published, rtol=0, atol=ALLOWED)


def test_its_exported_graph_gives_the_published_forms_logits(
    network: Any, slices: NDArray[np.float32], published: NDArray[np.float32], tmp_path: Path
) -> None:
    card = published_card("lesion-net", ARGUMENTS, input_shape=list(SIZE))
    done = export_model(network, card, tmp_path / "lesion-net").card
    assert done.runtime == "openvino", done.runtime_reason
    found = open_runtime(done, "cpu", runtime="openvino", threads=1).run(slices)["lesion"]
    np.testing.assert_allclose(found, published, rtol=0, atol=ALLOWED)


def test_every_norm_counts_in_the_comparison(
    network: Any, slices: NDArray[np.float32], published: NDArray[np.float32]
) -> None:
    # With numbers as at the beginning of a training in one of the decoder's or a unit's norms, it would fail.
    with torch.no_grad():
        for norm in (network.fusion_norm, network.stages[0].units[1].attention.reduction_norm):
            before = {name: value.clone() for name, value in norm.state_dict().items()}
            norm.weight.fill_(1.0)
            norm.bias.fill_(0.0)
            found = network(torch.from_numpy(slices)).numpy()
            norm.load_state_dict(before)
            assert np.abs(found - published).max() > 10 * ALLOWED
