"""Permissions, full disks, and places where no result can go."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

from damage import Cases, CaseSkippedError, Expectation, Trial, either, refused, succeeds

cases = Cases("places")

_WINDOWS = sys.platform == "win32"


# --- permissions ---------------------------------------------------------------------------------------------------
@cases.case("another user, all allowed", succeeds())
def _(trial: Trial) -> None:
    trial.as_other_user()


@cases.case("no permission to read the file", refused("permission"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    trial.path("--dwi").chmod(0)


@cases.case("no permission to read the ADC", refused("permission"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    trial.path("--adc").chmod(0)


@cases.case("no permission to enter the folder", refused("permission"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    moved = trial.folder / "closed"
    moved.mkdir()
    trial.use("--dwi", trial.path("--dwi").rename(moved / "dwi.nii.gz"))
    moved.chmod(0)


@cases.case("no permission to list a DICOM folder", refused("permission"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    folder = trial.use("--dwi", trial.folder / "series")
    folder.mkdir()
    folder.chmod(0o311)


@cases.case("no permission to read the b-values", refused("permission"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    (trial.folder / "dwi.bval").write_text("1000")
    (trial.folder / "dwi.bval").chmod(0)


@cases.case("no permission to write beside the result", refused("ermission|may not write"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    closed = trial.place / "closed"
    closed.mkdir(mode=0o555)
    trial.options["--out"] = str(closed / "result")


@cases.case("no permission to look into the place", refused("ermission|may not write"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    closed = trial.place / "closed"
    closed.mkdir()
    trial.options["--out"] = str(closed / "result")
    closed.chmod(0)


@cases.case("no permission to replace an earlier result", refused("ermission|may not write"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    closed = trial.place / "closed"
    shutil.copytree(trial.earlier_result, closed / "result")
    trial.options["--out"] = str(closed / "result")
    closed.chmod(0o555)


@cases.case("earlier result of somebody else", either("same"))
def _(trial: Trial) -> None:
    trial.as_other_user()
    if "user" not in trial.limits:
        raise CaseSkippedError("there is nobody else without being root")
    shutil.copytree(trial.earlier_result, trial.out)


@cases.case("no permission to read an earlier result", refused())
def _(trial: Trial) -> None:
    trial.as_other_user()
    shutil.copytree(trial.earlier_result, trial.place / "closed")
    (trial.place / "closed").chmod(0)
    trial.options["--out"] = str(trial.place / "closed")


# --- full disk -----------------------------------------------------------------------------------------------------
def _full_disk(trial: Trial, *, file: str, earlier: bool) -> None:
    """No file may become as large as this one of the result; "" none at all."""
    if not hasattr(os, "fork"):
        raise CaseSkippedError("there is no limit on file sizes here")
    trial.limits["file_size"] = (trial.earlier_result / file).stat().st_size - 1 if file else 0
    trial.note = f"{trial.limits['file_size']} bytes"
    if earlier:
        shutil.copytree(trial.earlier_result, trial.out)
    trial.options["--out"] = str(trial.out)


for _file in ("", "lesion_mask.nii.gz", "lesion_probability.nii.gz", "summary.json", "overlay.png", "report.html"):
    cases.add(f"disk full at {_file or 'once'}", refused(), partial(_full_disk, file=_file, earlier=False))
    cases.add(
        f"disk full at {_file or 'once'}, earlier result", refused(), partial(_full_disk, file=_file, earlier=True)
    )


# --- where the result shall go -------------------------------------------------------------------------------------
@cases.case("out is a file", refused("not a folder"))
def _(trial: Trial) -> None:
    trial.out.write_text("precious")
    trial.options["--out"] = str(trial.out)


@cases.case("out lies in a file", refused())
def _(trial: Trial) -> None:
    trial.out.write_text("precious")
    trial.options["--out"] = str(trial.out / "deeper")


@cases.case("out lies in folders that are not there yet", succeeds())
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.place / "a" / "b" / "result")


@cases.case("out lies in new folders, ADC missing", refused("no such file"))
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.place / "a" / "b" / "result")
    trial.path("--adc").unlink()


@cases.case("out lies in new folders, disk full", refused())
def _(trial: Trial) -> None:
    _full_disk(trial, file="report.html", earlier=False)
    trial.options["--out"] = str(trial.place / "a" / "b" / "result")


def _foreign(trial: Trial, *, name: str, earlier: bool) -> None:
    if earlier:
        shutil.copytree(trial.earlier_result, trial.out)
    trial.out.mkdir(exist_ok=True)
    (trial.out / name).write_text("precious")
    trial.options["--out"] = str(trial.out)


cases.add("out holds a foreign file", refused("thesis"), partial(_foreign, name="thesis.docx", earlier=False))
cases.add("out holds a hidden file", refused("hidden"), partial(_foreign, name=".hidden", earlier=False))
cases.add(
    "out holds a file with our name",
    refused("incomplete|readable summary"),
    partial(_foreign, name="lesions.csv", earlier=False),
)
cases.add(
    "out holds a false summary",
    refused("incomplete|readable summary"),
    partial(_foreign, name="summary.json", earlier=False),
)
cases.add(
    "out holds a result and a foreign file", refused("thesis"), partial(_foreign, name="thesis.docx", earlier=True)
)


@cases.case("out is an empty folder", succeeds())
def _(trial: Trial) -> None:
    trial.out.mkdir()
    trial.options["--out"] = str(trial.out)


@cases.case("out is the folder of the scans", refused("not empty"))
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.folder)


@cases.case("out is the root", refused())
def _(trial: Trial) -> None:
    trial.options["--out"] = Path(trial.place.anchor).as_posix()


@cases.case("out is the working directory", refused("not empty|working folder"))
def _(trial: Trial) -> None:
    trial.options["--out"] = "."


@cases.case("out is nothing", refused())
def _(trial: Trial) -> None:
    trial.options["--out"] = ""


@cases.case("out ends in two dots", refused("not empty|working folder"))
def _(trial: Trial) -> None:
    (trial.place / "a").mkdir()
    trial.options["--out"] = str(trial.place / "a" / "..")


def _out_link(trial: Trial, *, to: str) -> None:
    (trial.place / "real").mkdir()
    try:
        trial.out.symlink_to(to)
    except OSError as error:
        raise CaseSkippedError("links cannot be made here") from error
    trial.options["--out"] = str(trial.out)


cases.add("out is a link to a folder", refused("link"), partial(_out_link, to="real"))
cases.add("out is a link to nothing", refused("link"), partial(_out_link, to="gone"))
cases.add("out is a link to itself", refused("link"), partial(_out_link, to="result"))


@cases.case("out lies behind a link", succeeds())
def _(trial: Trial) -> None:
    _out_link(trial, to="real")
    trial.options["--out"] = str(trial.out / "result")


@cases.case("out is a device", refused("not a folder"))
def _(trial: Trial) -> None:
    if _WINDOWS:
        raise CaseSkippedError("there are no devices as files here")
    trial.options["--out"] = "/dev/null"


@cases.case("out is a name of 300 characters", refused())
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.place / ("z" * 300))


@cases.case("out is a name of 250 characters", either("same"))
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.place / ("z" * 250))


@cases.case("out is a path of 9000 characters", refused())
def _(trial: Trial) -> None:
    trial.options["--out"] = str(trial.place / "/".join(["z" * 90] * 100))


@cases.case("out is an earlier result", succeeds())
def _(trial: Trial) -> None:
    shutil.copytree(trial.earlier_result, trial.out)
    trial.options["--out"] = str(trial.out)


@cases.case("out is an earlier result, written through", succeeds())
def _(trial: Trial) -> None:
    shutil.copytree(trial.earlier_result, trial.out)
    trial.options["--out"] = str(trial.out) + os.sep


@cases.case("out is an earlier result that cannot be read", refused())
def _(trial: Trial) -> None:
    shutil.copytree(trial.earlier_result, trial.out)
    (trial.out / "summary.json").write_bytes(b"\xff\xfe\x00")
    trial.options["--out"] = str(trial.out)


@cases.case("the scans lie in the earlier result", refused())
def _(trial: Trial) -> None:
    shutil.copytree(trial.earlier_result, trial.out)
    trial.use("--dwi", trial.path("--dwi").rename(trial.out / "dwi.nii.gz"))
    trial.options["--out"] = str(trial.out)


@cases.case("the earlier mask as reference", succeeds())
def _(trial: Trial) -> None:
    shutil.copytree(trial.earlier_result, trial.out)
    trial.use("--reference", trial.out / "lesion_mask.nii.gz")
    trial.options["--out"] = str(trial.out)


@cases.case("unknown option", Expectation((2,), usage=True))
def _(trial: Trial) -> None:
    trial.options["--diwi"] = "x"
