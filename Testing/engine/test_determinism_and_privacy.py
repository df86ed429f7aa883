"""The same call gives the same bytes, and no file says whose scan it was, unless the user asks for it."""

from __future__ import annotations

import base64
import getpass
import gzip
import json
import os
import platform
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  usual name
import small_brain as phantom

from strokeseg.cli import app

SAME_BYTES = (
    "lesion_mask.nii.gz",
    "lesion_probability.nii.gz",
    "lesions.csv",
    "summary.json",
    "metrics.json",
    "overlay.png",
    "report.html",
)
FOLDER = "Mustermann Erika 1970 St Vincent"
NAMES = {"dwi": "mustermann-b1000.nii.gz", "adc": "mustermann-adcmap.nii", "b0": "mustermann-lowbvalue.nii.gz"}
REFERENCE = "mustermann-by-drfrankenstein.nii.gz"
PICTURE = re.compile(rb"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient whose name stands in every header, folder and file; with faults that the reader remarks upon."""
    folder = tmp_path_factory.mktemp("data") / FOLDER
    folder.mkdir()
    brain = phantom.small_brain()
    dwi = brain.dwi.copy()
    dwi[0, 0, :3] = np.nan

    def shifted_qform(header: Any) -> None:
        header["qoffset_x"] = float(header["qoffset_x"]) + 30

    phantom.save_nifti(folder / NAMES["dwi"], dwi, brain.affine, edit=shifted_qform)
    phantom.save_nifti(folder / NAMES["adc"], brain.adc * 1000, brain.affine)
    phantom.save_nifti(folder / NAMES["b0"], brain.b0, brain.affine)
    phantom.save_nifti(folder / REFERENCE, brain.lesion.astype(np.uint8), brain.affine)
    return folder


def arguments(scans: Path, out: Path) -> list[str]:
    given = [text for role, name in NAMES.items() for text in (f"--{role}", str(scans / name))]
    return ["segment", *given, "--reference", str(scans / REFERENCE), "--per-class", "--out", str(out)]


def run(*given: str) -> None:
    with pytest.raises(SystemExit) as end:
        app(list(given))
    assert end.value.code in (0, None)


@pytest.fixture(scope="module")
def result(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run."""
    out = tmp_path_factory.mktemp("results") / "out"
    run(*arguments(scans, out))
    return out


def in_another_process(given: list[str], hash_seed: str) -> None:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "TZ": "Pacific/Auckland",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([sys.executable, "-m", "strokeseg", *given], env=environment, check=True, capture_output=True)


def test_the_same_call_gives_the_same_bytes_in_every_process(scans: Path, result: Path, tmp_path: Path) -> None:
    run(*arguments(scans, tmp_path / "second"))
    in_another_process(arguments(scans, tmp_path / "third"), hash_seed="4711")
    for name in SAME_BYTES:
        first, second, third = ((f / name).read_bytes() for f in (result, tmp_path / "second", tmp_path / "third"))
        assert first == second, name
        assert first == third, name
    assert nib.load(result / "lesion_mask.nii.gz").get_fdata().sum() > 100


def test_times_and_dates_stand_in_run_json_only(result: Path) -> None:
    date = json.loads((result / "run.json").read_text(encoding="utf-8"))["date"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", date)
    for name, text in readable(result).items():
        if name != "run.json":
            assert date[:10].encode() not in text, name


def test_the_names_of_files_and_folders_change_nothing(scans: Path, result: Path, tmp_path: Path) -> None:
    other = tmp_path / "x"
    other.mkdir()
    for name in (*NAMES.values(), REFERENCE):
        (other / name.replace("mustermann", "m")).write_bytes((scans / name).read_bytes())
    run(*(a.replace(str(scans), str(other)).replace("mustermann", "m") for a in arguments(scans, tmp_path / "second")))
    for name in SAME_BYTES:
        assert (result / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def png_texts(content: bytes) -> bytes:
    """The chunks of a PNG that are not the picture; compressed ones also unpacked."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    found, position = b"", 8
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        if kind not in (b"IHDR", b"IDAT", b"IEND", b"PLTE"):
            found += kind + b" " + data
            for start in range(len(data)):
                try:
                    found += zlib.decompress(data[start:])
                except zlib.error:
                    continue
        position += 12 + length
    return found


def readable(folder: Path) -> dict[str, bytes]:
    """Every file of a result as what it says: unpacked, pictures as the texts in them (packed bytes spell any word)."""
    found = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = content[:32] + gzip.decompress(content)
        if path.suffix == ".png":
            content = png_texts(content)
        if path.suffix == ".html":
            pictures = PICTURE.findall(content)
            assert pictures
            content = PICTURE.sub(b"", content) + b"".join(png_texts(base64.b64decode(p)) for p in pictures)
        found[path.name] = content
    return found


def identifying(folder: Path) -> list[bytes]:
    """What must not be said: parts of names, in small letters."""
    home = [part for part in (getpass.getuser(), platform.node()) if len(part) > 4]
    words = [
        "quintessa",
        "zzyzx",
        "mustermann",
        "erika",
        "vincent",
        "frankenstein",
        "lowbvalue",
        "adcmap",
        "pytest-of",
    ]
    return [w.lower().encode() for w in (*words, *home, str(folder.parent), str(Path.home()) + os.sep)]


def said_in(out: Path, words: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name, w) for name, content in readable(out).items() for w in words if w in content.lower()]


def test_the_search_would_find_a_name_in_every_kind_of_file(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    Figure().savefig(tmp_path / "a.png", metadata={"Author": "Zzyzx " * 100})
    encoded = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    (tmp_path / "b.html").write_text(f'<img src="data:image/png;base64,{encoded}">', encoding="utf-8")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(b"name: ZZYZX" * 9))
    (tmp_path / "d.json").write_text('{"x": "zzyzx"}', encoding="utf-8")
    assert [name for name, _ in said_in(tmp_path, [b"zzyzx"])] == ["a.png", "b.html", "c.nii.gz", "d.json"]


def test_no_output_says_whose_scan_it_was(scans: Path, result: Path) -> None:
    header = (scans / NAMES["adc"]).read_bytes()
    assert phantom.PATIENT.encode() in header
    summary = json.loads((result / "summary.json").read_text(encoding="utf-8"))
    assert len([note for i in summary["inputs"] for note in i["notes"]]) >= 2, "the faults must have been remarked upon"
    assert said_in(result, identifying(scans)) == []


def test_images_that_are_written_have_no_text_in_their_headers(result: Path) -> None:
    images = sorted(result.glob("*.nii.gz"))
    assert len(images) == 3
    for path in images:
        header = nib.load(path).header
        assert not header.extensions
        assert all(header[field].item() == b"" for field in ("descrip", "aux_file", "db_name", "intent_name"))
        # Byte 3 holds the flags of the gzip frame: no file name, no comment; bytes 4-7 its time.
        assert path.read_bytes()[3:8] == bytes(5)


def test_identify_writes_the_names_of_the_files_and_no_folder(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(*arguments(scans, out), "--identify")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["identity"] == NAMES
    hidden = [b"quintessa", b"zzyzx", b"vincent", b"pytest-of", str(scans.parent).lower().encode()]
    assert said_in(out, hidden) == []


def test_a_dicom_series_gives_away_nothing_of_its_header(scans: Path, tmp_path: Path) -> None:
    series = tmp_path / FOLDER
    series.mkdir()
    brain = phantom.small_brain()
    write_dicom(series, brain.dwi, brain.affine)
    assert b"Quintessa" in next(series.iterdir()).read_bytes()
    out = tmp_path / "out"
    run("segment", "--dwi", str(series), "--adc", str(scans / NAMES["adc"]), "--out", str(out))
    assert said_in(out, [*identifying(scans), b"1.2.826", b"schutzengel"]) == []
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["result"]["lesion_count"] == 1


def write_dicom(folder: Path, array: Any, affine: Any) -> None:
    """The array (x, y, z) as a DICOM series with a name in its header, one file a slice."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    lps = np.diag([-1, -1, 1]) @ affine[:3, :3] / spacing
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    orientation = "\\".join(f"{v:.6f}" for v in (*lps[:, 0], *lps[:, 1]))
    for k in range(array.shape[2]):
        image = sitk.GetImageFromArray(np.round(array[:, :, k]).astype(np.int16).T[None])
        image.SetSpacing(spacing.tolist())
        position = np.diag([-1, -1, 1]) @ (affine[:3, 3] + affine[:3, 2] * k)
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.7.{k + 1}",
            "0008|0060": "MR",
            "0008|0080": "Klinik Schutzengel",
            "0010|0010": phantom.PATIENT,
            "0010|0020": "Zzyzx-1911",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.5",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.6",
            "0008|103e": "DWI of Quintessa",
            "0020|0011": "3",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": orientation,
            "0018|0050": f"{spacing[2]:g}",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"quintessa-{k:03d}.dcm"))
        writer.Execute(image)


def test_changing_a_header_text_changes_only_the_hash(tmp_path: Path) -> None:
    brain = phantom.small_brain()

    def renamed(header: Any) -> None:
        header["descrip"] = b"somebody else"

    edits: dict[str, Callable[[Any], None] | None] = {"a": None, "b": renamed}
    for name, edit in edits.items():
        folder = tmp_path / name
        folder.mkdir()
        phantom.save_nifti(folder / "dwi.nii", brain.dwi, brain.affine, edit=edit)
        phantom.save_nifti(folder / "adc.nii", brain.adc, brain.affine)
        given = ["--dwi", str(folder / "dwi.nii"), "--adc", str(folder / "adc.nii")]
        run("segment", *given, "--out", str(folder / "out"))
    first, second = (json.loads((tmp_path / n / "out" / "summary.json").read_text(encoding="utf-8")) for n in edits)
    assert first["inputs"][0].pop("sha256") != second["inputs"][0].pop("sha256")
    assert first == second
