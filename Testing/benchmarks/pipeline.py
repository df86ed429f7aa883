"""How long the pipeline takes and how much memory, from files to files, each run in a fresh process.

    python Testing/benchmarks/pipeline.py [FOLDER ...] [--repeat 3] [--json]

Without a folder the synthetic patient is taken. A folder may hold one case or many. Nothing is asserted: the figures
are those of this machine under its present load, and are worth comparing only with others of the same hour.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from strokeseg.case import CaseFiles, discover
from strokeseg.errors import InputError
from strokeseg.resources import resource_path

STAGES = ("read", "prepare", "model", "postprocess", "lesions", "write", "report")
PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK", "PIL", "matplotlib", "jinja2", "typer", "rich", "strokeseg")
# Everything that a run had loaded, once more and one after the other: in the run itself a thread loads what draws the
# picture meanwhile, and Python's clock for imports counts the time of one thread in the other. That clock hears
# __import__, not importlib.import_module.
_IMPORT_AGAIN = """
import contextlib, sys
from pathlib import Path
for name in Path(sys.argv[1]).read_text(encoding="utf-8").split():
    with contextlib.suppress(ImportError):
        __import__(name)
"""


@dataclass(frozen=True)
class Run:
    """One call of the command line.

    Attributes:
        wall_s: From the start of the process to its end.
        stages_s: Stage to seconds, as the command says.
        peak_mib: Largest resident memory of the process; None where the system does not tell.
    """

    wall_s: float
    stages_s: dict[str, float]
    peak_mib: float | None


def main() -> int:
    """Measure, print, and return the exit code: 3 when no case could be segmented."""
    parser = argparse.ArgumentParser(description="Seconds and memory of the pipeline on this machine.")
    parser.add_argument("folders", nargs="*", help="folders with cases; default: the synthetic patient")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    folders = options.folders or [resource_path("Samples", "synthetic-patient")]
    try:
        cases = [case for folder in folders for case in discover(folder)]
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code

    results: dict[str, Any] = {"machine": _machine(), "cases": []}
    with tempfile.TemporaryDirectory(prefix="strokeseg-benchmark-") as temporary:
        for case in cases:
            results["cases"].append(_measure(case, options.repeat, Path(temporary)))
        measured = [i for i, result in enumerate(results["cases"]) if result["runs"]]
        if measured:
            results["imports"] = _imports(cases[measured[0]], Path(temporary))
    # Last, because it loads numpy and scipy here: a process starts with the peak memory of the one that started it.
    emboli = _load_emboli()
    losses = [loss for mm in emboli.SLICES_MM for seed in emboli.SEEDS for loss in emboli.measure(seed, mm)]
    results["thick_slices"] = [asdict(loss) for loss in losses]
    if options.json:
        print(json.dumps(results, ensure_ascii=False, allow_nan=False))
    else:
        _print(results, emboli.table(losses))
    return 0 if measured else 3


def _measure(case: CaseFiles, repeat: int, temporary: Path) -> dict[str, Any]:
    """All runs of one case as plain data; a case that the command refuses has none, and the reason."""
    runs: list[Run] = []
    refused = ""
    for number in range(repeat):
        done = _run(_arguments(case, temporary / f"{case.name}-{number}"))
        if isinstance(done, str):
            refused = done
            break
        runs.append(done)
    size = sum(path.stat().st_size for path in case.files.values() if path.is_file())
    return {
        "name": case.name,
        "roles": list(case.files),
        "input_mib": round(size / 2**20, 2),
        "refused": refused,
        "runs": [asdict(run) for run in runs],
    }


def _arguments(case: CaseFiles, out: Path) -> list[str]:
    """The command line of a case; the reference stays out, comparing is no part of the work."""
    given = [x for role, path in case.files.items() for x in (f"--{role.replace('_', '-')}", str(path))]
    return ["-m", "strokeseg", "segment", *given, "--out", str(out), "--format", "json"]


def _run(arguments: list[str]) -> Run | str:
    """Run the command in a fresh process; the error in words where it ends with one."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        output = process.stdout.read()
        peak_mib = _wait(process)
        wall_s = time.perf_counter() - start
        process.stdout.close()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    try:
        answer = json.loads(output)
    except ValueError:
        return f"exit code {process.returncode}: {said[-500:]}"
    if answer["event"] == "error":
        return f"exit code {process.returncode}: {answer['title']} {answer['cause']}"
    return Run(wall_s, answer["seconds"], peak_mib)


def _wait(process: subprocess.Popen[bytes]) -> float | None:
    """Wait for the end of a process; its peak resident memory in MiB (VmHWM), where the system tells."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return float(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def _imports(case: CaseFiles, temporary: Path) -> dict[str, Any]:
    """Seconds of import by package: those that a run loads, and the others of `PACKAGES` by themselves."""
    in_a_run = _import_times(_arguments(case, temporary / "imports"))
    names = [name for name, _ in in_a_run if not name.endswith("__main__")]
    listed = temporary / "names.txt"
    listed.write_text("\n".join(names), encoding="utf-8")
    seconds = _by_package(_import_times(["-c", _IMPORT_AGAIN, str(listed)]))
    loaded = {name.split(".")[0] for name in names}
    others = sorted(((s, p) for p, s in seconds.items() if p not in PACKAGES), reverse=True)
    return {
        "modules": len(names),
        "loaded_s": {p: seconds.get(p, 0.0) for p in PACKAGES if p in loaded},
        "not_loaded_s": {
            p: _by_package(_import_times(["-c", f"import {p}"])).get(p)
            for p in PACKAGES
            if p not in loaded and importlib.util.find_spec(p) is not None
        },
        "others_s": sum(s for s, _ in others),
        "largest_others_s": {p: s for s, p in others[:5]},
    }


def _import_times(arguments: list[str]) -> list[tuple[str, float]]:
    """Module and seconds of its own, in the order in which Python finished loading them."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    fields = [
        line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "import time:" in line
    ]
    return [(f[2].strip(), int(f[0]) / 1e6) for f in fields if len(f) == 3 and f[0].strip().isdigit()]


def _by_package(times: list[tuple[str, float]]) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for name, seconds in times:
        sums[name.split(".")[0]] += seconds
    return dict(sums)


def _machine() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpus": usable,
        "load_average": None if load is None else [round(v, 2) for v in load],
    }


def _load_emboli() -> ModuleType:
    path = Path(__file__).parents[1] / "phantoms" / "emboli.py"
    spec = importlib.util.spec_from_file_location("strokeseg_emboli_phantom", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _print(results: dict[str, Any], thick_slices: str) -> None:
    machine = results["machine"]
    load = machine["load_average"]
    print("Figures from this machine under its present load; they say nothing about another one.")
    print(
        f"{machine['system']}, Python {machine['python']}, {machine['cpus']} CPUs"
        + ("" if load is None else f", load average at the start {', '.join(f'{v:.2f}' for v in load)}")
    )
    for case in results["cases"]:
        _print_case(case)
    if "imports" in results:
        _print_imports(results["imports"])
    print("\n31 simulated emboli of 0.02 to 0.3 ml through the 2 mm model grid and back (geometry only, three seeds)")
    print(thick_slices)


def _print_case(case: dict[str, Any]) -> None:
    print(
        f"\n{case['name']}: {', '.join(case['roles'])}; {case['input_mib']:.1f} MiB of files, {len(case['runs'])} runs"
    )
    if case["refused"]:
        print(f"  not measured, {case['refused']}")
    if not case["runs"]:
        return
    print(f"  {'seconds':<34} {'best':>8} {'median':>8}")
    stages = list(STAGES) + sorted({s for run in case["runs"] for s in run["stages_s"]} - set(STAGES))
    for stage in stages:
        _print_row(stage, [run["stages_s"].get(stage, 0.0) for run in case["runs"]])
    rest = [run["wall_s"] - sum(run["stages_s"].values()) for run in case["runs"]]
    _print_row("start of Python, imports, the rest", rest)
    _print_row("files to files, fresh process", [run["wall_s"] for run in case["runs"]])
    peaks = [run["peak_mib"] for run in case["runs"] if run["peak_mib"] is not None]
    if peaks:
        print(f"  {'peak memory, MiB':<34} {min(peaks):8.0f} {statistics.median(peaks):8.0f}")


def _print_row(name: str, seconds: list[float]) -> None:
    print(f"  {name:<34} {min(seconds):8.3f} {statistics.median(seconds):8.3f}")


def _print_imports(imports: dict[str, Any]) -> None:
    print(f"\nImports of a run, {imports['modules']} modules, one after the other (a run loads some of them meanwhile)")
    for package, seconds in imports["loaded_s"].items():
        print(f"  {package:<34} {seconds:8.3f}")
    largest = ", ".join(f"{package} {seconds:.3f}" for package, seconds in imports["largest_others_s"].items())
    print(f"  {'everything else':<34} {imports['others_s']:8.3f}   ({largest})")
    for package, seconds in imports["not_loaded_s"].items():
        print(f"  {package:<34} {seconds:8.3f}   (not loaded by this run)")


if __name__ == "__main__":
    sys.exit(main())
