"""Seconds a volume of the 3D attention U-Net: run as it was published, and by the engine's windows.

    python Testing/benchmarks/attention_unet.py [--features 64] [--windows 2 | --full] [--rounds 2] [--threads 2]
                                                [--precision fp32] [--device cpu] [--json FILE]

The volume is 224x224x144 voxels of 1 mm with a brain of usual size, a window 112x112x80. The published way runs PyTorch
over all 27 windows of the volume and takes the plain mean of their probabilities. The engine cuts the brain's box out,
leaves out windows without brain, adds up logits with most weight in a window's middle, and runs OpenVINO on a CPU,
PyTorch elsewhere; device and precision are the same in every way, so are the weights, random ones rounded to the half
precision in which models are stored. The ways take turns, the least of all rounds counts. Without --full so many
windows are run of each way and the seconds of a volume follow from their number, which is said. The program ends with
an error where probabilities of a window differ by more than 0.01 in fp32, or where the engine is not three times as
fast. Memory is read where Linux tells it. Figures are those of the computer that prints them.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "phantoms"))
from tiny_model import tiny_card

VOLUME, WINDOW, MULTIPLE, OVERLAP = (224, 224, 144), (112, 112, 80), 16, 0.25
# Published: three quarters of a window from each to the next, the last one moved back into the volume.
STARTS = list(product((0, 84, 112), (0, 84, 112), (0, 60, 64)))
BAR = 3.0
# OpenVINO sums a whole map in one single-precision number to normalise it: over a million voxels, logits of this
# network move by 0.01 to 0.02 (2026.4), which is at most 0.005 of a probability.
ALLOWED = 0.01
PUBLISHED, SAME, OURS = "published", "engine's windows, PyTorch", "engine's windows"


def volume():
    """DWI- and ADC-like channels (2, x, y, z), and the brain."""
    offset = np.indices(VOLUME).transpose(1, 2, 3, 0) - (np.array(VOLUME) - 1) / 2
    brain = ((offset / (68, 84, 66)) ** 2).sum(axis=-1) <= 1
    drawn = np.random.default_rng(0).normal(1.0, 0.3, (2, *VOLUME))
    return np.where(brain, drawn, 0.0).astype(np.float32), brain


def brain_box(channels, brain):
    """The same in the engine's box around the brain."""
    from strokeseg.prepare.grid import ModelGrid
    from strokeseg.volume import Grid

    grid = Grid(VOLUME, np.eye(4))
    model_grid = ModelGrid.around(brain, grid, spacing_mm=(1.0, 1.0, 1.0), margin_voxels=4, multiple=MULTIPLE)
    inside = model_grid.forward(brain, interpolation="linear") > 0
    return np.stack([model_grid.forward(c) for c in channels]), inside


def corners(shape, number):
    """A map in which so many windows are wanted: each corner of a volume lies in one window alone."""
    wanted = np.zeros(shape, dtype=bool)
    for corner in list(product((0, -1), repeat=3))[:number]:
        wanted[corner] = True
    return wanted


class Published:
    """The published way: native PyTorch, uniform mean of probabilities."""

    def __init__(self, card, given, channels):
        import torch
        from safetensors.torch import load_file

        from strokeseg.networks import build, load_state

        self.torch, self.given, self.channels = torch, given, channels
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        network = build(card.network, **card.network_arguments)
        load_state(network, load_file(card.folder / "weights.safetensors"))
        self.network = network.eval().to(given.device)

    def logits(self, batch):
        torch, given = self.torch, self.given
        torch.set_num_threads(given.threads)
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[given.precision]
        lower = torch.autocast(given.device.split(":")[0], dtype=kind, enabled=given.precision != "fp32")
        with torch.inference_mode(), lower:
            return self.network(torch.from_numpy(batch).to(given.device)).float()

    def run(self, number):
        """The probability map of the first windows; seconds."""
        start = time.perf_counter()
        total, times = np.zeros(VOLUME, np.float32), np.zeros(VOLUME, np.float32)
        for first in STARTS[:number]:
            box = tuple(slice(s, s + w) for s, w in zip(first, WINDOW, strict=True))
            window = np.ascontiguousarray(self.channels[(slice(None), *box)])[None]
            total[box] += self.logits(window).sigmoid()[0, 0].cpu().numpy()
            times[box] += 1
        np.divide(total, times, out=total, where=times > 0)
        return time.perf_counter() - start


class Engine:
    """The engine's own strategy on the brain's box."""

    def __init__(self, card, given, channels, inside, runtime):
        from strokeseg.predict.strategies import Tiling
        from strokeseg.predict.strategies.windows import positions
        from strokeseg.runtime import open_runtime

        self.channels, self.inside = channels, inside
        self.runtime = open_runtime(
            card, given.device, runtime=runtime, precision=given.precision, threads=given.threads
        )
        self.tiling = Tiling(WINDOW, OVERLAP, MULTIPLE)
        starts = positions(inside.shape, self.tiling)
        boxes = [tuple(slice(s, s + w) for s, w in zip(first, WINDOW, strict=True)) for first in starts]
        self.number = sum(bool(inside[box].any()) for box in boxes)

    def run(self, number):
        """So many windows, or all where there are no more; seconds."""
        from strokeseg.predict.strategies import windows

        wanted = self.inside if number >= self.number else corners(self.inside.shape, number)
        start = time.perf_counter()
        windows(self.runtime, self.channels, wanted, self.tiling, lambda done, total: None)
        return time.perf_counter() - start


def opened(way, card, given, channels, brain):
    """A way, ready to run."""
    if way == PUBLISHED:
        return Published(card, given, channels)
    runtime = "openvino" if way == OURS and given.device == "cpu" else "torch"
    return Engine(card, given, *brain_box(channels, brain), runtime)


def resident(field):
    """A line of Linux's status of this process, in MB: ``VmRSS`` now, ``VmHWM`` at the most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def peak(way, card, given):
    """Print peak memory of one window in a process of its own, and what libraries and scan took before it, in MB."""
    import torch

    torch.set_num_threads(given.threads)
    data = volume()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # what was before does not count
    before = resident("VmRSS")
    opened(way, card, given, *data).run(1)
    said = {"before": before, "peak": resident("VmHWM")}
    if given.device != "cpu":
        said["device"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(said))


def memory(way, folder, given):
    """`peak`, asked of a new process."""
    options = [f"--{name}={getattr(given, name)}" for name in ("features", "threads", "precision", "device")]
    command = [sys.executable, __file__, *options, "--peak", way, "--model", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"'{way}' failed in a process of its own:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def exported(folder, given):
    """The model's folder, made by the export."""
    import torch

    from strokeseg.networks import build
    from strokeseg.networks.counting import cost, parameters
    from strokeseg_training.export import export_model

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    arguments = {"features": given.features}
    network = build("attention-unet-3d", **arguments).half().float().eval()
    gmac = cost(network, (1, 2, *WINDOW)).total / 1e9
    print(f"{parameters(network):,} parameters, {gmac:.1f} GMAC a window; exporting ...", flush=True)
    card = tiny_card("attention-unet", network="attention-unet-3d", arguments=arguments, spacing_mm=1.0,
                     multiple=MULTIPLE, strategy="windows", window=list(WINDOW), overlap=OVERLAP)  # fmt: skip
    start = time.perf_counter()
    done = export_model(network, card, folder)
    print(f"exported in {time.perf_counter() - start:.0f} s, for {done.card.runtime}", flush=True)
    return gmac


def compare(ways):
    """Largest differences of one window's logits and probabilities from the published way's, and the largest logit."""
    half = [v // 2 - w // 2 for v, w in zip(VOLUME, WINDOW, strict=True)]
    box = tuple(slice(s, s + w) for s, w in zip(half, WINDOW, strict=True))
    batch = np.ascontiguousarray(ways[PUBLISHED].channels[(slice(None), *box)])[None]
    expected = ways[PUBLISHED].logits(batch).cpu().numpy()
    apart, chances = {}, {}
    for name, way in ways.items():
        if name != PUBLISHED:
            found = way.runtime.run(batch)["lesion"]
            apart[name] = float(np.abs(found - expected).max())
            chances[name] = float(np.abs(expit(found) - expit(expected)).max())
    return apart, chances, float(np.abs(expected).max())


def measure(folder, given):
    """Every way's windows, seconds a window and a volume, and its memory."""
    from strokeseg.models import read_card

    card = read_card(folder)
    names = [PUBLISHED, SAME, OURS] if given.device == "cpu" else [PUBLISHED, OURS]
    memories = {name: memory(name, folder, given) for name in names}
    data = volume()
    ways = {name: opened(name, card, given, *data) for name in names}
    apart, chances, largest = compare(ways)
    total = {name: len(STARTS) if name == PUBLISHED else way.number for name, way in ways.items()}
    run = {name: number if given.full else min(given.windows, number) for name, number in total.items()}
    seconds = {name: [] for name in names}
    for _ in range(given.rounds):
        for name, way in ways.items():
            seconds[name].append(way.run(run[name]) / run[name])
    least = {name: min(values) for name, values in seconds.items()}
    return {
        "windows": total,
        "windows_run": run,
        "seconds_a_window": seconds,
        "seconds_a_volume": {name: least[name] * total[name] for name in names},
        "memory_mb": memories,
        "apart": apart,
        "chances_apart": chances,
        "largest_logit": largest,
    }


def report(found, gmac, given):
    """Print what was found; gives how many times faster the engine is."""
    total, volumes = found["windows"], found["seconds_a_volume"]
    how = "all windows" if given.full else f"{given.windows} windows of each way, the volume from their number"
    processor = platform.processor() or platform.machine()
    print(f"\n{processor}, {given.device}, {given.threads} threads, {given.precision}, "
          f"load {os.getloadavg()[0]:.1f}, {how}, least of {given.rounds} rounds, "
          f"logits up to {found['largest_logit']:.3g}")  # fmt: skip
    for name, seconds in volumes.items():
        a_window = seconds / total[name]
        memory_mb = found["memory_mb"][name]
        device = f", {memory_mb['device']:.0f} MB on the device" if "device" in memory_mb else ""
        print(f"  {name:<26} {total[name]:3} windows of {a_window:8.3f} s ({2 * gmac / a_window:6.0f} GFLOP/s)  "
              f"{seconds:9.2f} s a volume  {volumes[PUBLISHED] / seconds:5.2f}x  peak {memory_mb['peak']:.0f} MB, "
              f"{memory_mb['before']:.0f} before{device}  differs by {found['apart'].get(name, 0.0):.1e}")  # fmt: skip
    between = volumes[PUBLISHED] / total[PUBLISHED] / (volumes.get(SAME, volumes[OURS]) / total[OURS])
    runtime = volumes[SAME] / volumes[OURS] if SAME in volumes else 1.0
    faster = volumes[PUBLISHED] / volumes[OURS]
    print(f"Causes: fewer windows {total[PUBLISHED] / total[OURS]:.2f}x, the same runtime within the engine "
          f"{between:.2f}x, runtime {runtime:.2f}x; in all {faster:.2f}x")  # fmt: skip
    return faster


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        from strokeseg.models import read_card

        peak(given.peak, read_card(given.model), given)
        return
    if not 1 <= given.windows <= 8:
        parser.error("--windows must be 1 to 8; --full runs all")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "attention-unet"
        gmac = exported(folder, given)
        found = measure(folder, given)
    faster = report(found, gmac, given)
    if given.json:
        given.json.write_text(json.dumps({"given": vars(given), **found}, indent=2, default=str), encoding="utf-8")
    chances = max(found["chances_apart"].values())
    if given.precision == "fp32" and chances > ALLOWED:
        raise SystemExit(f"The probabilities of the ways differ by {chances:.2g}; {ALLOWED:g} is allowed.")
    if faster < BAR:
        raise SystemExit(f"{faster:.2f} times as fast; the bar is {BAR:g}.")


if __name__ == "__main__":
    main()
