"""The README's section "Use it in Slicer", followed word by word in the double of Slicer.

In a step, **bold** is what the user takes hold of, *italic* what he finds on the panel at that moment, `code` what he
types. What happens in Slicer itself (settings, menus, the file dialog) is done by hand here.
"""

from __future__ import annotations

import io
import json
import re
import types
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import panel_driver as drive
import pytest

README = drive.ROOT / "README.md"
SAMPLE = drive.ROOT / "Resources" / "Samples" / "synthetic-patient"
_TOKEN = re.compile(r"\*\*(?P<bold>[^*]+)\*\*|\*(?P<italic>[^*]+)\*|`(?P<code>[^`]+)`")


def _section() -> str:
    text = README.read_text(encoding="utf-8")
    return text.partition("\n## Use it in Slicer\n")[2].partition("\n## ")[0]


def _steps() -> list[str]:
    numbered = _section().partition("\n1. ")[2].partition("\n\n")[0]
    return [" ".join(step.split()) for step in re.split(r"\n\d+\. ", "\n1. " + numbered)[1:]]


def _tokens(step: str) -> list[tuple[str, str]]:
    return [(str(m.lastgroup), m[str(m.lastgroup)]) for m in _TOKEN.finditer(step)]


def _plain(text: str) -> str:
    return re.sub("&(.)", r"\1", text).rstrip(":")


class Reader:
    """Does what the README says."""

    def __init__(self, environment: Any, patch: pytest.MonkeyPatch) -> None:
        self.environment, self.patch = environment, patch
        self.widget: Any = None
        self.typed: list[Any] = []

    def finds(self, words: str) -> bool:
        """Whether a visible text of the panel has these words."""
        from PySide6 import QtWidgets

        native = self.widget.ui.StrokeSeg._native
        labels = [w.text() for w in native.findChildren(QtWidgets.QLabel) if w.isVisibleTo(native)]
        labels += [w.toPlainText() for w in native.findChildren(QtWidgets.QTextEdit) if w.isVisibleTo(native)]
        return any(words in label for label in labels)

    def control(self, name: str) -> Any:
        """The visible widget that carries this name, or that the label of this name belongs to."""
        for widget in vars(self.widget.ui).values():
            label = widget.inherits("QLabel")
            button = widget.inherits("QAbstractButton") and not widget.inherits("ctkCollapsibleButton")
            if (label or button) and not widget.isHidden() and _plain(widget.text) == name:
                return widget.buddy() if label else widget
        raise AssertionError(f"the panel has nothing called '{name}'")

    def take(self, name: str, value: str | None) -> None:
        from slicer_harness import dialogs

        if name == "a row of the table":
            self.widget.ui.lesionTable.selectRow(1)
        elif value is not None:
            self.control(name).value = float(value)
        elif self.control(name).inherits("QAbstractButton"):
            button = self.control(name)
            assert button.enabled, name
            if name.startswith("Load files"):
                paths = tuple(str(SAMPLE / f"{role}.nii.gz") for role in ("dwi", "adc"))
                dialogs.plan("QFileDialog.getOpenFileNames", paths)
            button.click()
        self.settle()

    def settle(self) -> None:
        drive.finish(self.environment, self.widget)
        self.environment.processEvents(0.2)


@pytest.fixture
def reader(slicerEnvironment: Any, monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(slicerEnvironment, monkeypatch)


def _installed(reader: Reader) -> None:
    """The console line, typed: pip is told what the panel says, and the packages are there."""
    import qt
    import slicer
    from StrokeSegLib import requirements

    reader.patch.setattr(slicer.util, "pip_install", reader.typed.append)
    exec(qt.QApplication.clipboard().text(), {"slicer": slicer})
    reader.patch.setattr(requirements, "missingHere", list)


def test_the_steps_can_be_followed_word_by_word(reader: Reader) -> None:
    import sys

    import slicer

    steps = _steps()
    assert len(steps) == 8
    drive.forget()
    folder = drive.ROOT / dict(_tokens(steps[0]))["code"]
    sys.path.insert(0, str(folder))
    from StrokeSegLib import requirements

    reader.patch.setattr(requirements, "missingHere", lambda: ["nibabel", "openvino"])
    modules = [p.name for p in folder.glob("*.py")]
    assert modules == ["StrokeSeg.py"]
    reader.environment.loadModule(folder / modules[0])
    reader.environment.announceStartup()

    # What Slicer has once its Segment Editor was opened.
    opened: list[Any] = []
    editor = types.SimpleNamespace(setSegmentationNode=opened.append, setSourceVolumeNode=opened.append)
    reader.patch.setattr(slicer.modules, "SegmentEditorWidget", types.SimpleNamespace(editor=editor), raising=False)
    (_, title), (_, category), *rest = _tokens(steps[1])
    module = slicer.modules.strokeseg
    assert (module.title, category) == (title, module.categories[0])
    reader.widget = reader.environment.openModule("StrokeSeg")
    said = ""
    for step in [rest, *map(_tokens, steps[2:])]:
        for (kind, words), (nextKind, value) in zip(step, [*step[1:], ("", "")], strict=True):
            if kind == "bold":
                reader.take(words, value if nextKind == "code" else None)
            elif kind == "italic":
                assert reader.finds(words), words
            said = reader.widget.ui.summaryLabel.text if words == "Try it" else said
            if words == "Threshold":
                assert float(reader.widget.ui.summaryLabel.text.split()[0]) < float(said.split()[0])
            if words == "Reset to the model's":
                assert reader.widget.ui.summaryLabel.text == said
            if words == "Copy the line":
                _installed(reader)
            if words == "a row of the table":
                from StrokeSegLib import lesion_table

                assert lesion_table.highlightNode().GetSegmentation().GetNumberOfSegments() == 1
    assert reader.typed == [["nibabel>=5.2"], ["--no-deps", "openvino>=2025.4", str(drive.ROOT)]]
    assert reader.widget.panel.parameters.dwi.GetName() == "dwi"
    assert slicer.util.mainWindow().moduleSelector().selectedModule == "SegmentEditor"
    assert opened == [reader.widget.panel.result.nodes.segmentation, reader.widget.panel.parameters.dwi]


def test_the_lines_for_the_console_can_be_pasted(slicerEnvironment: Any) -> None:
    import slicer

    widget = drive.openPanel(slicerEnvironment, "auto")
    widget.panel.logic.loadSample(widget.panel.parameters)
    slicerEnvironment.processEvents()
    lines = re.findall(r"```python\n(.*?)```", _section(), re.DOTALL)
    assert len(lines) == 1
    said = io.StringIO()
    with redirect_stdout(said):
        exec(lines[0], {"slicer": slicer})
    volume, count = said.getvalue().split()
    # What the simulation drew; the model is whatever is bundled.
    drawn = json.loads((SAMPLE / "sample.json").read_text(encoding="utf-8"))
    assert 0.5 < float(volume) / drawn["lesion_volume_ml"] < 1.5
    assert 1 <= int(count) <= 2 * len(drawn["lesions"])


def test_the_section_shows_its_pictures_and_says_what_was_not_tried() -> None:
    section = _section()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", section)
    assert pictures
    assert all((drive.ROOT / Path(picture)).is_file() for picture in pictures)
    assert "a real Slicer has not been tried yet" in section
    assert "made in the test harness" in " ".join(section.split()).lower()
    assert "simulated" in section
