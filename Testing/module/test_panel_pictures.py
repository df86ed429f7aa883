"""The program that makes pictures of the panel: every state, nothing cut, every picture marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "Resources" / "Screenshots"
_MARK_COLOUR = (0xFF, 0xD7, 0x5F)


def _pixels(path: Path) -> Any:
    from PySide6 import QtGui

    image = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format.Format_RGB888)
    data = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return data[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


def _isMarked(path: Path) -> bool:
    """Whether the strip below the picture has the letters of the mark."""
    strip = _pixels(path)[-18:].astype(int)
    return int((np.abs(strip - _MARK_COLOUR).max(axis=2) < 60).sum()) > 100


@pytest.mark.parametrize("name", ["empty", "loaded", "forbidden", "running", "setup", "everything"])
def test_nothing_is_cut_in_a_panel_of_400_pixels(tmp_path: Path, name: str) -> None:
    from slicer_harness import pictures, screenshots

    with screenshots.staged(name) as stage:
        path = pictures.grab(stage.widget, tmp_path / "panel.png", width=400)
        cut = pictures.cut_texts(stage.widget)
        least = stage.widget.parent._native.minimumSizeHint().width()
    assert cut == []
    assert least <= 400
    assert _pixels(path).shape[1] == 400
    assert _isMarked(path)


def test_a_text_that_is_cut_is_noticed(slicerEnvironment: Any) -> None:
    import qt
    from slicer_harness import pictures

    box = qt.QWidget()
    qt.QVBoxLayout(box)
    label, wrapped, combo, spin = qt.QLabel("wide words"), qt.QLabel("a b c d e"), qt.QComboBox(), qt.QSpinBox()
    wrapped.wordWrap = True
    combo.addItem("a long choice")
    spin.specialValueText = "a long word"
    for name, widget in {"label": label, "wrapped": wrapped, "combo": combo, "spin": spin}.items():
        widget.objectName = name
        box.layout().addWidget(widget)
    box.show()
    slicerEnvironment.processEvents()
    assert pictures.cut_texts(box) == []
    label._native.setFixedWidth(20)
    wrapped._native.setFixedSize(20, 10)
    combo._native.setFixedWidth(40)
    spin._native.setFixedWidth(40)
    slicerEnvironment.processEvents()
    assert [text.partition(":")[0] for text in pictures.cut_texts(box)] == ["label", "wrapped", "combo", "spin"]


def test_a_section_that_was_folded_away_during_a_run_shows_what_is_now(tmp_path: Path) -> None:
    from slicer_harness import screenshots

    with screenshots.staged("running") as stage:
        assert not stage.ui.progressBar.isHidden()
        stage.fold("runSection")
        stage.goOn()
        stage.wait(lambda: not stage.run.busy)
        stage.turn()
        stage.unfold("runSection")
        assert stage.ui.progressBar.isHidden()
        assert stage.ui.statusLabel.text.startswith("Done in")
        assert not stage.ui.statusLabel.isHidden()


def test_slice_views_show_lesions_the_chosen_one_and_the_map(tmp_path: Path) -> None:
    from slicer_harness import screenshots

    overlay, chosen, probability = screenshots.slicePictures(tmp_path, ("Red",))
    red, yellow, orange = (_pixels(path)[:-18].astype(int) for path in (overlay, chosen, probability))
    assert all(map(_isMarked, (overlay, chosen, probability)))
    # Lesions are red over grey; the fill lets the scan through, where it is bright.
    assert int(((red[..., 0] - red[..., 1]) > 60).sum()) > 100
    assert int(((red[..., 0] > 200) & (red[..., 1] > 100) & (red[..., 0] - red[..., 1] > 40)).sum()) > 100
    assert int(((yellow[..., 0] > 200) & (yellow[..., 1] > 180) & (yellow[..., 2] < 90)).sum()) > 100
    # The map colours more than the lesions.
    assert int((np.ptp(orange, axis=2) > 60).sum()) > 3 * int((np.ptp(red, axis=2) > 60).sum())


def test_pictures_in_the_repository_are_small_and_marked() -> None:
    made = sorted(p for p in SCREENSHOTS.glob("slicer-*.png"))
    assert [p.name for p in made] == ["slicer-panel.png", "slicer-slices.png"]
    for path in made:
        assert path.stat().st_size < 200_000, path.name
        assert _isMarked(path), path.name
