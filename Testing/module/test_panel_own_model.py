"""A model that the user added is in the panel with its title, what it needs, and what its card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import panel_driver as drive
import pytest

TITLE = "Lesions of our own patients"
REASON = "Its graph runs on CPUs without PyTorch; for random input its logits differ from PyTorch's by up to 2e-06."


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and a home for models of the user's own."""
    pytest.importorskip("onnx", reason="the test makes a graph with onnx, which is not installed")
    from model_folders import write_model

    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "home"))
    return write_model(tmp_path / "from" / "own-network", title=TITLE, runtime_reason=REASON)


def titles(widget: Any) -> list[str]:
    combo = widget.ui.modelCombo
    return [combo.itemText(n) for n in range(combo.count)]


def test_an_added_model_is_listed_chosen_and_described(slicerEnvironment: Any, source: Path) -> None:
    from strokeseg.models import ModelStore

    without = titles(drive.openPanel(slicerEnvironment))
    assert TITLE not in without
    # What `strokeseg models add` calls.
    ModelStore().add(source)
    widget = drive.openPanel(slicerEnvironment)
    assert sorted(titles(widget)) == sorted([*without, TITLE])
    combo = widget.ui.modelCombo
    place = titles(widget).index(TITLE)
    combo.currentIndex = place
    combo.activated.emit(place)
    slicerEnvironment.processEvents()
    assert widget.panel.parameters.model == "own-network"
    assert combo.currentText == TITLE
    assert widget.ui.modelText.text.startswith("Needs DWI, ADC. Experimental.")
    assert "Limit: Means nothing." in widget.ui.modelText.text
    assert (widget.ui.dwiNeed.text, widget.ui.adcNeed.text, widget.ui.t1Need.text) == (
        "required",
        "required",
        "not used",
    )
    said = widget.ui.cardText.text.replace("&#x27;", "'")
    assert f"Title: {TITLE}<br>" in said
    assert f"Runs in: OpenVINO. {REASON}<br>" in said
