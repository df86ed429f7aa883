"""Whether a run ended as it must: the exit code, one error of three parts, nothing left behind, no secret told."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from damage import Expectation
from warm_runner import Outcome

FILES = {
    "lesion_mask.nii.gz",
    "lesion_probability.nii.gz",
    "lesions.csv",
    "summary.json",
    "run.json",
    "overlay.png",
    "report.html",
}
MOST_EXTRA_MIB = 300.0
_ERROR = re.compile(r"^Error: (.*?)\n  Why:        (.*?)\n  What to do: (.*?)\n\Z", re.DOTALL | re.MULTILINE)
# Python's own warnings name their class or the line that they come from; ours begin with the plain word.
_NOISE = re.compile(r"Traceback|\wWarning:|\.py:\d+|WARNING|HDF5-DIAG|itk::|ITK ERROR")
_HASHED = 64 << 20

Tree = dict[str, str]


@dataclass(frozen=True)
class Baseline:
    """The result without damage.

    Attributes:
        volume_ml: Of all lesions.
        centroid_ras_mm: Of the largest one.
        peak_mib: Largest resident memory of the run.
    """

    volume_ml: float
    centroid_ras_mm: tuple[float, ...]
    peak_mib: float


def tree(place: Path) -> Tree:
    """Every name below a folder, with what it is: two equal trees mean that nothing was touched."""
    found: Tree = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            what = f"link to {path.readlink()}"
        elif stat.S_ISREG(status.st_mode):
            what = f"{status.st_size} bytes, {_digest(path, status.st_size)}"
        else:
            what = f"kind {stat.S_IFMT(status.st_mode):o}"
        found[str(path.relative_to(place))] = what
    return found


def _digest(path: Path, size: int) -> str:
    if size > _HASHED:
        return f"changed at {path.stat().st_mtime_ns}"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except PermissionError:  # closed on purpose
        return "not readable"


def differences(before: Tree, after: Tree, *, beside: str = "") -> list[str]:
    """What changed from one tree to another, the folder `beside` and the way to it left out."""

    def ignored(name: str) -> bool:
        return bool(beside) and (name == beside or name.startswith(beside + "/") or beside.startswith(name + "/"))

    return [
        f"{name!r} {'appeared' if name not in before else 'vanished' if name not in after else 'changed'}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not ignored(name)
    ]


def parts_of(outcome: Outcome) -> dict[str, Any]:
    """The JSON object that a run printed; empty when it printed no single one."""
    lines = outcome.output.splitlines()
    try:
        data = json.loads(lines[0]) if len(lines) == 1 else {}
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def judge_run(outcome: Outcome, expectation: Expectation, baseline: Baseline, secrets: list[str]) -> list[str]:
    """What is wrong with any run, whatever came of it."""
    if outcome.timed_out:
        return [f"hung: killed after {outcome.seconds:.0f} s"]
    wrong = []
    if outcome.code not in expectation.codes:
        wrong.append(f"exit code {outcome.code}, expected {expectation}")
    noise = _NOISE.search(outcome.errors)
    if noise is not None:
        start = max(0, noise.start() - 60)
        wrong.append(f"noise on standard error: {' '.join(outcome.errors[start:][-700:].split())!r}")
    if outcome.peak_mib > baseline.peak_mib + MOST_EXTRA_MIB:
        wrong.append(f"used {outcome.peak_mib:.0f} MiB, {outcome.peak_mib - baseline.peak_mib:.0f} more than usual")
    wrong += [f"{secret!r} was told" for secret in secrets if secret in outcome.output or secret in outcome.errors]
    return wrong


def judge_refusal(in_json: Outcome, in_text: Outcome, expectation: Expectation) -> list[str]:
    """What is wrong with a refusal, said once for machines and once for people."""
    if in_json.code == 2 and expectation.codes != (3,):
        return []  # the command line itself was wrong: that is said in the way of all programs
    data = parts_of(in_json)
    parts = [str(data.get(key, "")) for key in ("title", "cause", "next_step")]
    if data.get("event") != "error" or not all(parts):
        return [f"no JSON error of three parts: {in_json.output[-300:]!r}"]
    wrong = []
    if data.get("exit_code") != in_json.code:
        wrong.append(f"the JSON object says exit code {data.get('exit_code')}")
    if in_json.errors:
        wrong.append(f"beside JSON, standard error says {in_json.errors[-300:]!r}")
    wrong += [f"a part is no sentence: {part!r}" for part in parts if not re.search(r"[.!?]['\")]?$", part)]
    if expectation.says and in_json.code == 3 and not re.search(expectation.says, " ".join(parts), re.IGNORECASE):
        wrong.append(f"the error does not say {expectation.says!r}: {' | '.join(parts)}")
    said = _ERROR.findall(in_text.errors)
    if in_text.code != in_json.code:
        wrong.append(f"exit code {in_text.code} in text, {in_json.code} in JSON")
    elif len(said) == 1:
        wrong += [f"control characters in {part!r}" for part in said[0] if not _printable(part)]
    if len(said) != 1 or (list(said[0]) != parts and all(_printable(part) for part in parts)):
        wrong.append(f"no single error of the same three parts in text: {in_text.errors[-400:]!r}")
    if in_text.output:
        wrong.append(f"a refusal wrote to standard output: {in_text.output[-200:]!r}")
    return wrong


def _printable(text: str) -> bool:
    """No character that moves the cursor, turns the direction or cannot be written."""
    return not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text)


def judge_result(
    outcome: Outcome, out: Path, expectation: Expectation, baseline: Baseline, secrets: list[str]
) -> list[str]:
    """What is wrong with a result."""
    data = parts_of(outcome)
    if data.get("event") != "result":
        return [f"no JSON result: {outcome.output[-300:]!r}"]
    wrong = []
    if outcome.errors:
        wrong.append(f"beside JSON, standard error says {outcome.errors[-300:]!r}")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not names >= FILES:
        return [*wrong, f"files are missing: {sorted(FILES - names)}"]
    volume = float(data["summary"]["result"]["volume_ml"])
    wrong += _judge_mask(out / "lesion_mask.nii.gz", data["summary"]["grid"]["shape"], volume)
    said = json.dumps(data["summary"], ensure_ascii=False)
    if expectation.says and not re.search(expectation.says, said, re.IGNORECASE):
        wrong.append(f"the summary does not say {expectation.says!r}")
    if expectation.lesion != "any":
        wrong += _judge_lesion(data, volume, expectation.lesion, baseline)
    for path in out.iterdir():
        content = _unpacked(path)
        wrong += [f"{secret!r} stands in {path.name}" for secret in secrets if _bytes(secret) in content]
    return wrong


def _judge_mask(path: Path, shape: list[int], volume_ml: float) -> list[str]:
    image: Any = nib.load(path)
    mask = np.asanyarray(image.dataobj)
    counted = float(np.count_nonzero(mask)) * abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000.0
    if list(mask.shape) != shape:
        return [f"the mask has the shape {mask.shape}, the summary says {shape}"]
    if abs(counted - volume_ml) > 1e-3 * max(1.0, volume_ml):
        return [f"the mask holds {counted:.3f} ml, the summary says {volume_ml:.3f}"]
    return []


def _judge_lesion(data: dict[str, Any], volume: float, how: str, baseline: Baseline) -> list[str]:
    wrong = []
    if abs(volume / baseline.volume_ml - 1) > (0.005 if how == "same" else 0.1):
        wrong.append(f"lesions of {volume:.2f} ml, without damage {baseline.volume_ml:.2f}")
    centroid = data["lesions"][0]["centroid_ras_mm"] if data["lesions"] else [np.inf] * 3
    apart = float(np.linalg.norm(np.subtract(centroid, baseline.centroid_ras_mm)))
    if not apart < (0.5 if how == "same" else 4.0):
        wrong.append(f"the largest lesion lies {apart:.1f} mm off")
    return wrong


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        return content + gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):
        return content


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
