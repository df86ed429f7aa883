"""What the command line says and how it ends: help, exit codes, JSON, pipes and terminals, and each command's work."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import small_brain as phantom

from strokeseg.case import Case
from strokeseg.cli import app
from strokeseg.volume import write_nifti

COMMANDS = (["segment"], ["evaluate"], ["report"], ["demo"], ["models", "list"], ["models", "show"])
HEAVY = {"numpy", "scipy", "nibabel", "SimpleITK", "matplotlib", "torch", "openvino", "jinja2"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    brain = phantom.small_brain()
    for role in ("dwi", "adc", "b0", "t1"):
        phantom.save_nifti(folder / f"{role}.nii.gz", getattr(brain, role), brain.affine)
    phantom.save_nifti(folder / "lesion.nii.gz", brain.lesion.astype(np.uint8), brain.affine)
    return folder


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; nothing else may be there or on standard error."""
        assert self.out.count("\n") == 1, self.out
        assert self.err == ""
        return json.loads(self.out)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process."""

    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as end:
            app([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return Said(int(end.value.code or 0), out, err)

    return run


def pair(scans: Path) -> list[object]:
    return ["--dwi", scans / "dwi.nii.gz", "--adc", scans / "adc.nii.gz"]


def entries(help_text: str) -> dict[str, str]:
    """Each option and argument of a help page with its whole sentence, line breaks taken out."""
    found: dict[str, str] = {}
    name = ""
    for line in help_text.splitlines():
        start = re.match(r"^ {2,4}(\S.*?)(?: {2,}(.*))?$", line)
        if start:
            name = start[1]
            found[name] = start[2] or ""
        elif name and line.startswith("      "):
            found[name] = f"{found[name]} {line.strip()}".strip()
        else:
            name = ""
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_has_a_sentence_and_its_default(say: Any, command: list[str]) -> None:
    said = say(*command, "--help")
    assert said.code == 0
    options = {name: text for name, text in entries(said.out).items() if name.startswith("--") and name != "--help"}
    assert options
    for name, text in options.items():
        assert len(text) > 15, name
        assert re.search(r"default|required", text, re.IGNORECASE), f"{name}: {text}"


def test_every_argument_and_command_has_a_sentence(say: Any) -> None:
    for command in ([], ["models"]):
        page = say(*command, "--help").out
        rows = entries(page[page.index("Commands:") + len("Commands:\n") :])
        assert {"list", "show"} <= set(rows) if command else {"segment", "evaluate", "report", "models"} <= set(rows)
        assert all(len(text) > 15 for text in rows.values()), rows
    for name in ("report", "demo"):
        assert re.search(r"Arguments:\n +\S+ +\S+.{10}", say(name, "--help").out)


@pytest.mark.parametrize(
    ("option", "unit"),
    [("--threshold", "0-1"), ("--min-lesion-ml", "ml"), ("--b-value", "s/mm²"), ("--adc", "1e-3, 1e-6 or plain mm²/s")],
)
def test_options_with_a_unit_name_it(say: Any, option: str, unit: str) -> None:
    texts = [text for name, text in entries(say("segment", "--help").out).items() if name.startswith(option)]
    assert len(texts) == 1
    assert unit in texts[0]


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["models", "--help"]], ids=" ".join)
def test_help_loads_no_library_for_images(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "strokeseg", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    loaded = {line.rsplit("|", maxsplit=1)[-1].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["segment", "--nonsense"],
        ["segment", "--dwi"],
        ["segment", "--threshold", "1.5"],
        ["segment", "--min-lesion-ml", "-1"],
        ["segment", "--format", "xml"],
        ["evaluate"],
        ["evaluate", "--prediction", "p", "--reference", "r", "--connectivity", "7"],
        ["evaluate", "--prediction", "p", "--reference", "r", "--empty", "one"],
        ["models", "show"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(say: Any, arguments: list[str]) -> None:
    said = say(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert re.search(r"^(Error|Usage): ", said.err, re.MULTILINE)
    assert "Traceback" not in said.err


BAD: dict[str, tuple[int, list[str], str]] = {
    "no scan": (3, [], "No scan was given"),
    "only a brain mask": (3, ["--brain-mask", "dwi.nii.gz"], "No scan was given"),
    "missing file": (3, ["--dwi", "nothing.nii.gz", "--adc", "adc.nii.gz"], "no such file"),
    "missing role": (3, ["--dwi", "dwi.nii.gz"], "DWI"),
    "missing role of a named model": (3, ["--dwi", "dwi.nii.gz", "--model", "adc-threshold"], "ADC"),
    "place is a file": (3, ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--out", "lesion.nii.gz"], "is a file"),
    "place holds scans": (3, ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--out", "."], "working folder"),
    "reference is no mask": (
        3,
        ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--reference", "adc.nii.gz"],
        "no lesion mask",
    ),
    "unknown model": (4, ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--model", "adc-treshold"], "adc-threshold"),
    "cuda": (5, ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--device", "cuda:0"], "cuda:0"),
    "mps": (5, ["--dwi", "dwi.nii.gz", "--adc", "adc.nii.gz", "--device", "mps"], "mps"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_have_three_parts_and_their_exit_code_for_people_and_machines(
    say: Any, scans: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, arguments, words = BAD[name]
    monkeypatch.chdir(scans)
    before = sorted(scans.rglob("*"))
    said = say("segment", *arguments)
    assert said.code == code
    assert words in said.err
    assert re.search(r"^Error: .+\n  Why:        .+\n  What to do: .+\n\Z", said.err, re.MULTILINE)
    assert said.out == ""
    machine = say("segment", *arguments, "--format", "json")
    assert machine.code == code
    error = machine.json
    assert error["event"] == "error"
    assert error["exit_code"] == code
    assert all(f" {error[part]}\n" in said.err for part in ("title", "cause", "next_step"))
    assert sorted(scans.rglob("*")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["strokeseg.segmentation.run.predict", "strokeseg.segmentation.result.render_page"])
def test_a_cancelled_run_ends_with_130_and_writes_nothing(
    say: Any, scans: Path, tmp_path: Path, number: int, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = stage.rsplit(".", maxsplit=1)
    original = getattr(importlib.import_module(module), name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), number)
        return original(*arguments, **options)

    monkeypatch.setattr(stage, interrupted)
    before = signal.getsignal(number)
    said = say("segment", *pair(scans), "--out", tmp_path / "deep" / "out")
    assert said.code == 130
    assert "The run was cancelled." in said.err
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_too_little_memory_ends_with_6(say: Any, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Case, "from_files", full)
    said = say("segment", *pair(scans), "--format", "json")
    assert said.code == 6
    assert said.json["kind"] == "MemoryLimitError"


def test_segment_without_a_place_writes_nothing_and_says_so(
    say: Any, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(scans.iterdir())
    said = say("segment", *pair(scans))
    assert said.code == 0
    assert "1 lesion, " in said.out
    assert "Nothing was written: give --out FOLDER" in said.out
    assert "Research use only" in said.out
    assert sorted(scans.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_segment_tells_machines_everything_in_one_object(say: Any, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = say(
        "segment", *pair(scans), "--reference", scans / "lesion.nii.gz", "--out", out, "--per-class", "--format", "json"
    )
    assert said.code == 0
    result = said.json
    assert result["event"] == "result"
    assert result["summary"] == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert result["metrics"] == json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert result["metrics"]["dice"] > 0.8
    assert len(result["lesions"]) == result["summary"]["result"]["lesion_count"] == 1
    # The phantom's infarct lies at R +32 mm: the patient's right.
    assert result["lesions"][0]["side"] == "right"
    np.testing.assert_allclose(result["lesions"][0]["centroid_ras_mm"], phantom.LESION_CENTRE_MM, atol=1.0)
    assert sorted(result["files"]) == sorted(p.name for p in out.iterdir())
    assert {"lesion_mask.nii.gz", "lesion_probability.nii.gz", "lesions.csv", "summary.json", "run.json"} < set(
        result["files"]
    )
    assert {"overlay.png", "report.html", "metrics.json"} < set(result["files"])
    assert "lesion_probability_acute-ischaemic-lesion.nii.gz" in result["files"]
    assert all(Path(path).is_file() for path in result["files"].values())
    assert say("segment", *pair(scans), "--out", out).code == 0, "its own result must be replaceable"
    assert not (out / "metrics.json").exists()


def test_threshold_and_smallest_lesion_reach_the_result(say: Any, scans: Path) -> None:
    low, high, none = (
        say("segment", *pair(scans), "--format", "json", *options).json
        for options in (["--threshold", "0.2"], ["--threshold", "0.9"], ["--min-lesion-ml", "1000"])
    )
    assert low["summary"]["result"]["volume_ml"] > high["summary"]["result"]["volume_ml"] > 0
    assert (low["summary"]["model"]["threshold"], high["summary"]["model"]["threshold"]) == (0.2, 0.9)
    assert none["lesions"] == []
    assert none["summary"]["model"]["minimum_lesion_ml"] == 1000


def test_the_b_value_makes_an_adc_from_dwi_and_b0(say: Any, scans: Path) -> None:
    two = ["--dwi", scans / "dwi.nii.gz", "--b0", scans / "b0.nii.gz", "--format", "json"]
    unknown = say("segment", *two)
    assert unknown.code == 3
    assert "b-value" in " ".join(str(v) for v in unknown.json.values())
    known = say("segment", *two, "--b-value", "1000").json
    assert known["summary"]["computed"] == ["adc"]
    assert len(known["lesions"]) == 1


def test_brackets_in_names_stay_brackets(say: Any, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "a[b] [bold]c"
    said = say("segment", *pair(scans), "--out", out)
    assert f"Results: {out}{os.sep}\n" in said.out
    wrong = say("segment", "--dwi", tmp_path / "x[red].nii", "--adc", tmp_path / "y.nii")
    assert "'x[red].nii'" in wrong.err


def test_a_pipe_gets_plain_lines_and_no_control_codes(scans: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "strokeseg", "segment", *map(str, pair(scans)), "--model", "adc-threshold"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "\x1b" not in run.stdout + run.stderr
    assert "\r" not in run.stdout + run.stderr
    stages = [line.split(":")[0] for line in run.stderr.splitlines()]
    assert stages == ["read", "prepare", "model", "postprocess", "lesions"]
    assert re.search(r"│ 1 +│ \d+\.\d{3} +│ right +│ -?\d+\.\d, -?\d+\.\d, -?\d+\.\d +│", run.stdout), (
        "a lesion is one line"
    )


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_a_terminal_gets_a_bar_that_vanishes(scans: Path) -> None:
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "strokeseg", "segment", *map(str, pair(scans))],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(master)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert b"\x1b[" in seen
    assert b"starting " in seen
    assert "━".encode() in seen
    assert seen.endswith(b"\x1b[2K"), "the last thing is that the line is cleared"
    assert b"\x1b" not in out


def test_a_reader_that_leaves_early_ends_the_run_quietly_and_leaves_nothing(scans: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "strokeseg", "segment", *map(str, pair(scans)), "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    process.stderr.close()
    assert process.wait() == 1
    assert first.startswith("read: ")
    assert list(tmp_path.iterdir()) == []


def test_models_are_listed_and_shown(say: Any) -> None:
    assert "adc-threshold" in say("models").out
    assert say("models").out == say("models", "list").out
    listed = say("models", "list", "--format", "json").json["models"]
    shown = say("models", "show", "adc-threshold", "--format", "json").json["model"]
    assert shown in listed
    text = say("models", "show", "adc-threshold").out
    for limit in shown["limits"]:
        assert limit in text
    unknown = say("models", "show", "nothing")
    assert unknown.code == 4
    assert "adc-threshold" in unknown.err


def mask(path: Path, *boxes: tuple[slice, ...]) -> Path:
    array = np.zeros((12, 12, 12), np.uint8)
    for box in boxes:
        array[box] = 1
    write_nifti(path, array, np.diag([2.0, 2.0, 2.0, 1.0]))
    return path


def test_evaluate_prints_figures_known_by_hand(say: Any, tmp_path: Path) -> None:
    # 8 and 4 voxels of 8 mm³, 4 of them common: Dice 2 * 4 / 12.
    prediction = mask(tmp_path / "p.nii.gz", np.s_[2:4, 2:4, 2:4])
    reference = mask(tmp_path / "r.nii.gz", np.s_[2:4, 2:4, 2:3])
    said = say("evaluate", "--prediction", prediction, "--reference", reference)
    assert said.code == 0
    assert re.search(r"Dice +│ 0\.6667", said.out)
    assert "+0.032 ml (absolute 0.032)" in said.out
    out = tmp_path / "figures.json"
    figures = say("evaluate", "--prediction", prediction, "--reference", reference, "--out", out, "--format", "json")
    assert figures.json["metrics"]["dice"] == pytest.approx(2 / 3)
    assert json.loads(out.read_text(encoding="utf-8")) == figures.json["metrics"]


def test_evaluate_gives_an_empty_reference_a_table_of_its_own(say: Any, tmp_path: Path) -> None:
    prediction = mask(tmp_path / "p.nii.gz", np.s_[2:4, 2:4, 2:4], np.s_[8:9, 8:9, 8:9])
    nothing = mask(tmp_path / "nothing.nii.gz")
    said = say("evaluate", "--prediction", prediction, "--reference", nothing)
    assert said.code == 0
    assert re.search(r"false positive +│ 0\.072 ml in 2 lesions", said.out)
    # 9 of 1728 voxels are wrong.
    assert re.search(r"specificity +│ 0\.994792", said.out)
    assert "not defined: the reference is empty" in said.out
    assert "Dice" not in said.out
    both = say("evaluate", "--prediction", nothing, "--reference", nothing, "--format", "json").json["metrics"]
    assert both["dice"] is None
    isles = say("evaluate", "--prediction", nothing, "--reference", nothing, "--empty", "isles", "--format", "json")
    assert isles.json["metrics"]["dice"] == 1.0


def test_evaluate_replaces_its_own_file_and_nobody_elses(say: Any, tmp_path: Path) -> None:
    scan = mask(tmp_path / "scan.nii.gz", np.s_[2:4, 2:4, 2:4])
    compare = ["evaluate", "--prediction", scan, "--reference", scan, "--out"]
    before = scan.read_bytes()
    for place in (scan, tmp_path, scan / "figures.json", tmp_path / "nothing" / "figures.json"):
        said = say(*compare, place)
        assert said.code == 3, place
        assert "What to do:" in said.err
    assert scan.read_bytes() == before
    own = tmp_path / "figures.json"
    assert say(*compare, own).code == say(*compare, own).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures.json", "scan.nii.gz"]


def cells(page: str) -> list[str]:
    """The texts of all table cells of a page."""
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page, re.DOTALL)]


def test_report_says_the_same_again(say: Any, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    say("segment", *pair(scans), "--model", "adc-threshold", "--reference", scans / "lesion.nii.gz", "--out", out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    first = (out / "report.html").read_text(encoding="utf-8")
    (out / "report.html").unlink()
    said = say("report", out)
    assert said.code == 0
    again = (out / "report.html").read_text(encoding="utf-8")
    assert len(cells(first)) > 30
    assert cells(again) == cells(first)
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.name != "report.html"} == {
        name: content for name, content in before.items() if name != "report.html"
    }


def test_report_of_what_is_no_result_is_refused(say: Any, scans: Path, tmp_path: Path) -> None:
    assert say("report", tmp_path).code == 3
    assert say("report", tmp_path / "nothing").code == 3
    assert say("report", scans / "dwi.nii.gz").code == 3
    out = tmp_path / "out"
    say("segment", *pair(scans), "--out", out)
    for damage in ("volume_ml\n1\n", "label,voxels\nx,y\n"):
        (out / "lesions.csv").write_text(damage, encoding="utf-8")
        said = say("report", out, "--format", "json")
        assert said.code == 3
        assert "damaged" in said.json["title"]


def test_report_finishes_what_a_killed_run_left(say: Any, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    say("segment", *pair(scans), "--out", out)
    out.rename(tmp_path / "out.previous-4194001-1600000000000")
    assert say("report", out).code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_demo_finds_the_lesions_and_says_that_the_patient_is_synthetic(say: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    said = say("demo", out)
    assert said.code == 0
    assert "This patient is synthetic" in said.out
    assert str(out / "report.html") in said.out
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["dice"] > 0.5
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["synthetic"] is True
    assert "Synthetic patient" in (out / "report.html").read_text(encoding="utf-8")
    assert nib.load(out / "lesion_mask.nii.gz").shape == tuple(summary["grid"]["shape"])


def test_the_demo_tells_machines_in_one_object_that_the_patient_is_synthetic(say: Any, tmp_path: Path) -> None:
    assert say("demo", tmp_path / "demo", "--format", "json").json["summary"]["synthetic"] is True
