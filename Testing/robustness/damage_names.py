"""Names of files that trip programs up: odd characters, odd lengths, narrow terminals."""

from __future__ import annotations

from functools import partial

from damage import Cases, CaseSkippedError, Trial, refused, succeeds

cases = Cases("names")


def _named(trial: Trial, *, name: str, missing: bool = False) -> None:
    """Input file and result folder get the name."""
    try:
        moved = trial.path("--dwi").rename(trial.folder / f"{name}.nii.gz")
    except (OSError, ValueError) as error:
        raise CaseSkippedError("this file system takes no such name") from error
    trial.use("--dwi", moved)
    trial.options["--out"] = str(trial.place / name)
    if missing:
        moved.unlink()


_NAMES = {
    "with spaces": "a scan of a head",
    "with umlauts": "Schädelübersicht größer",
    "with umlauts in two parts": "Scha\u0308del",
    "Chinese": "张三的头颅 扩散加权",
    "Arabic": "دماغ",
    "with an emoji": "brain 🧠",
    "in brackets": "[red]scan[bold] [x",
    "with quotes": 'it\'s "quoted" `$HOME` $(id) %s {0}',
    "with a line break": "first\nsecond",
    "with control characters": "scan\x1b[31m\x07\t",
    "with a backslash": "back\\slash \\[x]",
    "beginning with a dash": "--dwi",
    "with a selector": "scan#3",
    "ending in dots": "scan...",
    "of bytes that are no text": "scan-\udcff\udcfe",
    "writing backwards": "scan\u202egnp.exe",
}
for _kind, _name in _NAMES.items():
    cases.add(f"name {_kind}", succeeds(), partial(_named, name=_name))
    cases.add(f"name {_kind}, no such file", refused("no such file"), partial(_named, name=_name, missing=True))


@cases.case("name of 300 characters", refused())
def _(trial: Trial) -> None:
    trial.use("--dwi", trial.folder / ("x" * 300 + ".nii.gz"))


@cases.case("path of 9000 characters", refused())
def _(trial: Trial) -> None:
    trial.use("--dwi", trial.folder / "/".join(["y" * 90] * 100) / "dwi.nii.gz")


@cases.case("name of 255 bytes", succeeds())
def _(trial: Trial) -> None:
    trial.use("--dwi", trial.path("--dwi").rename(trial.folder / ("x" * 248 + ".nii.gz")))


@cases.case("file as folder of the file", refused())
def _(trial: Trial) -> None:
    trial.use("--dwi", trial.path("--dwi") / "dwi.nii.gz")


def _narrow(trial: Trial, *, encoding: str, missing: bool) -> None:
    _named(trial, name="头颅 Schädel", missing=missing)
    trial.limits["encoding"] = encoding


for _encoding in ("ascii", "cp1252"):
    cases.add(f"terminal of {_encoding}", succeeds(), partial(_narrow, encoding=_encoding, missing=False))
    cases.add(
        f"terminal of {_encoding}, no such file",
        refused("no such file"),
        partial(_narrow, encoding=_encoding, missing=True),
    )
