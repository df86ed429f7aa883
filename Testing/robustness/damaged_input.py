"""Segments hundreds of damaged inputs and prints a table of what came of each.

Run it as ``python Testing/robustness/damaged_input.py [--seed N] [--only NAME] [--list]``; it ends with exit code 1
when a case fails. Every case is a sound pair of simulated scans with one thing wrong. It must end with exit code 3 and
one error of three parts (or succeed where it should), without traceback, without a file more, less or other than
before, in little memory, and without telling where the file lay or whose it is. What cannot be set up on a machine is
said to be skipped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "phantoms"))  # of `small_brain`

import damage_bytes
import damage_companions
import damage_dicom
import damage_formats
import damage_header
import damage_names
import damage_places
import damage_values
import numpy as np
from damage import Case, CaseSkippedError, Trial
from damage_judge import Baseline, differences, judge_refusal, judge_result, judge_run, parts_of, tree
from small_brain import PATIENT, small_brain
from warm_runner import Job, Outcome, WarmRunner

FOLDER = "Aktenzeichen-0815"
"""The folder of the scans has a telling name, which must not come out either."""
_NOBODY = 65534
_USUAL_NAMES = {"dwi", "adc", "t1", "b0", "mask", "scan", "scans", "series", "result", "elsewhere", "slice012"}

ALL_CASES: tuple[Case, ...] = tuple(
    case
    for group in (
        damage_bytes,
        damage_header,
        damage_values,
        damage_formats,
        damage_dicom,
        damage_companions,
        damage_names,
        damage_places,
    )
    for case in group.cases.all
)


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        case: The case.
        status: "ok", "FAILED" or "skipped".
        code: Exit code of the run.
        said: The error's title and cause, the result's volume, or why it was skipped.
        wrong: Everything that is not as it must be.
        note: What was drawn by chance.
        seconds: Of the first run.
        extra_mib: Memory beyond that of a run without damage.
    """

    case: Case
    status: str
    code: int | None = None
    said: str = ""
    wrong: tuple[str, ...] = ()
    note: str = ""
    seconds: float = 0.0
    extra_mib: float = 0.0


@dataclass
class Ring:
    """Sets cases up, runs and judges them; a context manager that leaves nothing behind.

    Args:
        seed: Everything random comes from it and from the case's name.
    """

    seed: int = 0
    _root: Path = field(init=False)
    _runner: WarmRunner = field(init=False)
    _baseline: Baseline = field(init=False)
    _other_user: int | str | None = field(default=None, init=False)

    def __enter__(self) -> Ring:
        self._root = Path(tempfile.mkdtemp(prefix="strokeseg-damage-")).resolve()
        self._root.chmod(0o755)  # another user has to get through
        temporary = self._root / "temporary"
        temporary.mkdir()
        temporary.chmod(0o777)
        self._brain = small_brain()
        self._runner = WarmRunner(temporary)
        self._runner.__enter__()
        try:
            self._baseline = self._run_undamaged()
            self._other_user = self._find_other_user()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)
        _remove(self._root)

    def run(self, case: Case) -> Verdict:
        """Set one case up, run and judge it."""
        trial = self._trial(case.name)
        try:
            case.mutate(trial)
        except CaseSkippedError as reason:
            _remove(trial.place)
            return Verdict(case, "skipped", said=str(reason))
        except Exception as error:  # noqa: BLE001  one broken case must not hide what comes of the others
            _remove(trial.place)
            return Verdict(case, "FAILED", wrong=(f"could not be set up: {type(error).__name__}: {error}",))
        try:
            return self._judged(case, trial)
        finally:
            _remove(trial.place)

    def _judged(self, case: Case, trial: Trial) -> Verdict:
        secrets = [PATIENT, FOLDER]
        given = Path(trial.options.get("--dwi", "")).name.removesuffix(".nii.gz").removesuffix(".nii")
        told = [*secrets, given] if len(given) > 4 and given not in _USUAL_NAMES else secrets
        out = trial.place / trial.options["--out"]
        before, temporary = tree(trial.place), tree(self._root / "temporary")
        outcome = self._call(trial, "json")
        wrong = judge_run(outcome, case.expectation, self._baseline, secrets)
        if outcome.code == 0:
            real = out.resolve()
            beside = str(real.relative_to(trial.place)) if real.is_relative_to(trial.place) else ""
            wrong += judge_result(outcome, out, case.expectation, self._baseline, told)
            wrong += differences(before, tree(trial.place), beside=beside)
        else:
            in_text = self._call(trial, "text")
            wrong += [f"in text: {w}" for w in judge_run(in_text, case.expectation, self._baseline, secrets)]
            wrong += judge_refusal(outcome, in_text, case.expectation)
            wrong += differences(before, tree(trial.place))
        wrong += [
            f"temporary: {w}" for w in differences(temporary, tree(self._root / "temporary"), beside="matplotlib")
        ]
        return Verdict(
            case,
            "FAILED" if wrong else "ok",
            outcome.code,
            _in_short(outcome),
            tuple(dict.fromkeys(wrong)),
            trial.note,
            outcome.seconds,
            outcome.peak_mib - self._baseline.peak_mib,
        )

    def _trial(self, name: str) -> Trial:
        """Sound scans in a fresh folder; half of the cases have an earlier result in the place of the new one."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        place = Path(tempfile.mkdtemp(dir=self._root))
        place.chmod(0o755)
        folder = place / FOLDER / "scans"
        folder.mkdir(parents=True)
        trial = Trial(place, folder, self._brain, rng, self._root / "earlier" / "result", self._other_user)
        trial.save("dwi")
        trial.save("adc")
        trial.options["--out"] = str(trial.out)
        if rng.integers(2) and trial.earlier_result.exists():
            trial.options["--out"] = str(shutil.copytree(trial.earlier_result, trial.place / "earlier"))
        return trial

    def _call(self, trial: Trial, output: str) -> Outcome:
        options = {"--format": output, **trial.options}
        # With '=', a value may begin with a dash.
        arguments = ["segment", *(f"{option}={value}" for option, value in options.items())]
        return self._runner.run(Job(arguments, str(trial.place), **trial.limits))

    def _find_other_user(self) -> int | str | None:
        """Somebody whom permissions bind: oneself (None) or, for root, nobody; else why there is none."""
        if not hasattr(os, "geteuid"):
            return "this system has no permissions as they are tried here"
        if os.geteuid() != 0:
            return None
        trial = self._trial("another user")
        trial.other_user = _NOBODY
        trial.as_other_user()
        outcome = self._call(trial, "json")
        _remove(trial.place)
        return _NOBODY if outcome.code == 0 else "another user cannot run this Python"

    def _run_undamaged(self) -> Baseline:
        """The run that all others are compared with; its result is the older result of other cases."""
        trial = self._trial("no damage")
        earlier = self._root / "earlier"
        earlier.mkdir()
        trial.options["--out"] = str(earlier / "result")
        outcome = self._call(trial, "json")
        data = parts_of(outcome)
        if outcome.code != 0 or len(data["lesions"]) != 1:
            raise RuntimeError(f"the scans without damage were not segmented: {outcome}")
        _remove(trial.place)
        lesion = data["lesions"][0]
        return Baseline(data["summary"]["result"]["volume_ml"], tuple(lesion["centroid_ras_mm"]), outcome.peak_mib)


def _in_short(outcome: Outcome) -> str:
    data = parts_of(outcome)
    if data.get("event") == "error":
        return f"{data['title']} {data['cause']}"
    if data.get("event") == "result":
        codes = sorted({w["code"] for w in data["summary"]["warnings"]})
        return f"{data['summary']['result']['volume_ml']:.2f} ml" + (f", warned: {', '.join(codes)}" if codes else "")
    return " ".join((outcome.errors or outcome.output).split())[-200:]


def _remove(folder: Path) -> None:
    """Delete a folder although some in it were closed to everybody."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def case_named(name: str) -> Case:
    """The case of this name."""
    return next(case for case in ALL_CASES if case.name == name)


def line_of(verdict: Verdict) -> str:
    """One line of the table."""
    name = f"{verdict.case.group}: {verdict.case.name}"[:62]
    code = "-" if verdict.code is None else str(verdict.code)
    said = f"[{verdict.note}] {verdict.said}" if verdict.note else verdict.said
    said = said.encode("unicode_escape").decode("ascii") if not said.isprintable() else said
    return (
        f"{name:<62} {verdict.case.expectation!s:>7} {code:>5} {verdict.status:<7} {verdict.seconds:5.2f} "
        f"{verdict.extra_mib:+6.0f}  {said[:150]}"
    )


def main() -> int:
    """Run the cases and print the table; 1 when one fails."""
    parser = argparse.ArgumentParser(description="Segment damaged inputs and print what came of each.")
    parser.add_argument("--seed", type=int, default=0, help="everything random comes from it (default 0)")
    parser.add_argument("--only", default="", help="only cases whose group and name hold this text")
    parser.add_argument("--list", action="store_true", help="list the cases and run none")
    options = parser.parse_args()
    chosen = [case for case in ALL_CASES if options.only in f"{case.group}: {case.name}"]
    if not chosen:
        parser.error(f"no case has '{options.only}' in its name")
    if options.list:
        for case in chosen:
            print(f"{case.group}: {case.name} -> {case.expectation}")
        print(f"{len(chosen)} cases")
        return 0
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text file in every real call
    start = time.monotonic()
    verdicts = []
    print(f"{'case':<62} {'must':>7} {'code':>5} {'verdict':<7} {'s':>5} {'MiB':>6}  what was said")
    with Ring(options.seed) as ring:
        for case in chosen:
            verdicts.append(ring.run(case))
            print(line_of(verdicts[-1]), flush=True)
            for wrong in verdicts[-1].wrong:
                print(f"    !! {wrong}", flush=True)
    counts = Counter(verdict.status for verdict in verdicts)
    codes = Counter("none" if verdict.code is None else str(verdict.code) for verdict in verdicts)
    print(f"\n{len(verdicts)} cases with seed {options.seed} in {time.monotonic() - start:.0f} s: {dict(counts)}")
    print(f"exit codes: {dict(sorted(codes.items()))}")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
