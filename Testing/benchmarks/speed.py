"""Seconds and ratios of one network run in several ways, side by side in one process, on the same input and threads.

    python Testing/benchmarks/speed.py [--repeats 5] [--threads 2] [--json FILE]

The network is the residual U-Net of the default models (5,103,601 parameters) with random weights; the scan is
112x112x73 voxels of 2 mm, as in ISLES'22, with a brain of usual size. Every row goes from arrays to a mask on the
scan's own grid. Compared are OpenVINO and PyTorch as the engine runs them, MONAI's sliding window as most programs
call it and with larger windows, PyTorch on the whole volume, and nnU-Net's predictor where it is installed. The rate
of the matrix product is measured in the same run. Figures are those of the computer that prints them.
"""

import argparse
import importlib.util
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SHAPE = (112, 112, 73)
ROOT = Path(__file__).resolve().parents[2]


def phantom(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "Testing" / "phantoms" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan():
    """DWI- and ADC-like channels, the brain, and its grid."""
    from strokeseg.volume import Grid

    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [111, -111, -73]
    grid = Grid(SHAPE, affine)
    index = np.stack(np.meshgrid(*(np.arange(s) for s in SHAPE), indexing="ij"), axis=-1)
    brain = (((grid.to_world(index) - (0, 0, 0)) / (68, 84, 66)) ** 2).sum(axis=-1) <= 1
    rng = np.random.default_rng(0)
    channels = np.where(brain, rng.normal(1.0, 0.3, (2, *SHAPE)), 0.0).astype(np.float32)
    return channels, brain, grid


def best(function, repeats):
    """Least seconds of several calls after one that is not counted, and the last result."""
    function()
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def multiply_adds(network, shape):
    """Multiply-adds of all convolutions of one pass, by hooks."""
    import torch

    total = [0]

    def count(module, _inputs, output):
        kernel = int(np.prod(module.kernel_size)) * module.in_channels // module.groups
        # A transposed convolution does its work once for every input voxel.
        places = _inputs[0] if isinstance(module, torch.nn.ConvTranspose3d) else output
        per_place = kernel * (module.out_channels if isinstance(module, torch.nn.ConvTranspose3d) else 1)
        total[0] += (
            places[0, 0].numel()
            * per_place
            * (1 if isinstance(module, torch.nn.ConvTranspose3d) else module.out_channels)
        )

    hooks = [
        m.register_forward_hook(count)
        for m in network.modules()
        if isinstance(m, torch.nn.Conv3d | torch.nn.ConvTranspose3d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 2, *shape))
    for hook in hooks:
        hook.remove()
    return total[0]


def matrix_rates(threads):
    """GFLOP/s of a large matrix product, by precision, with PyTorch."""
    import torch

    torch.set_num_threads(threads)
    rates = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(3072, 3072).to(kind) for _ in range(2))
        seconds, _ = best(lambda a=a, b=b: a @ b, 5)
        rates[name] = 2 * 3072**3 / seconds / 1e9
    return rates


def rows(folder, threads, repeats):
    """Name, seconds and GFLOP of every way."""
    import torch
    from monai.inferers import sliding_window_inference
    from scipy.special import expit

    from strokeseg.models import read_card
    from strokeseg.networks import build
    from strokeseg.postprocess import decide
    from strokeseg.prepare.grid import ModelGrid
    from strokeseg.runtime import open_runtime

    torch.set_num_threads(threads)
    channels, brain, grid = scan()
    card = read_card(folder)
    network = build("residual-unet", in_channels=2, out_channels=1).eval()
    model_grid = ModelGrid.around(brain, grid, spacing_mm=(2.0, 2.0, 2.0), margin_voxels=4, multiple=16)
    box = model_grid.grid.shape
    gflop = 2 * multiply_adds(network, box) / 1e9

    def finish(probability):
        return decide(probability, threshold=0.5, minimum_lesion_ml=0.02, affine=grid.affine, brain=brain)

    def ours(runtime):
        prepared = np.stack([model_grid.forward(c) for c in channels])[None]
        logits = runtime.run(prepared)["lesion"][0, 0]
        return finish(expit(model_grid.back(np.clip(logits, -8, 8), outside=-8.0)) * brain)

    whole = torch.from_numpy(np.pad(channels, ((0, 0), (0, 0), (0, 0), (0, 7))))[None]

    def monai(size, overlap, batch):
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.from_numpy(channels)[None], (size,) * 3, batch, network, overlap=overlap, mode="gaussian"
            )
        return finish(expit(logits[0, 0].numpy()) * brain)

    def plain():
        with torch.inference_mode():
            return finish(expit(network(whole)[0, 0, :, :, :73].numpy()) * brain)

    result = []

    def add(name, function, work=None):
        seconds, _ = best(function, repeats)
        result.append(SimpleNamespace(name=name, seconds=seconds, gflops=None if work is None else work / seconds))
        print(f"  {name:<58} {seconds:8.3f} s", flush=True)

    for precision in ("fp32", "bf16"):
        runtime = open_runtime(card, "cpu", runtime="openvino", precision=precision, threads=threads)
        batch = np.stack([model_grid.forward(c) for c in channels])[None]
        add(f"network pass alone, OpenVINO {runtime.precision}", lambda r=runtime, b=batch: r.run(b), gflop)
        add(f"ours: brain box, one pass, OpenVINO {runtime.precision}", lambda r=runtime: ours(r))
        runtime.close()
    runtime = open_runtime(card, "cpu", runtime="torch", threads=threads)
    add("ours: brain box, one pass, PyTorch fp32", lambda: ours(runtime))
    runtime.close()
    torch.set_num_threads(threads)
    add("PyTorch fp32, one pass over the whole volume", plain)
    add("MONAI sliding window 96³, overlap 0.5", lambda: monai(96, 0.5, 1))
    add("MONAI sliding window 96³, overlap 0.25, batch 4", lambda: monai(96, 0.25, 4))
    add("MONAI sliding window 112³, overlap 0.25 (its best here)", lambda: monai(112, 0.25, 1))
    return result, gflop, box, _nnunet(network, channels, threads, repeats)


def _nnunet(network, channels, threads, repeats):
    """Seconds of nnU-Net's own tiling with and without mirroring; None where it is not installed."""
    if importlib.util.find_spec("nnunetv2") is None:
        return None
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    seconds = {}
    for mirroring in (False, True):
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=mirroring,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            verbose=False,
            allow_tqdm=False,
        )
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=(96, 96, 96))
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
        predictor.allowed_mirroring_axes = (0, 1, 2)
        torch.set_num_threads(threads)
        predict = lambda p=predictor: p.predict_sliding_window_return_logits(torch.from_numpy(channels))  # noqa: E731
        seconds[mirroring], _ = best(predict, max(1, repeats // 3))
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    processor = platform.processor() or platform.machine()
    print(f"{processor}, {given.threads} threads, load {os.getloadavg()[0]:.1f}, best of {given.repeats}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "speed"
        phantom("tiny_model").make_tiny_model(folder, name="speed", channels=(16, 32, 64, 128, 256), spacing_mm=2.0)
        table, gflop, box, nnunet = rows(folder, given.threads, given.repeats)
    rates = matrix_rates(given.threads)
    seconds = {row.name: row.seconds for row in table}
    reference = seconds["MONAI sliding window 96³, overlap 0.5"]
    print(
        f"\nBrain box {box}, {gflop:.0f} GFLOP a pass. Matrix product: "
        + ", ".join(f"{k} {v:.0f} GFLOP/s" for k, v in rates.items())
    )
    for row in table:
        share = ""
        if row.gflops is not None:
            kind = "bf16" if "bf16" in row.name else "fp32"
            share = f", {row.gflops:.0f} GFLOP/s = {row.gflops / rates[kind]:.0%} of the {kind} matrix product"
        print(f"  {row.name:<58} {row.seconds:8.3f} s  {reference / row.seconds:6.1f}x MONAI's 96³/0.5{share}")
    if nnunet is None:
        print("  nnU-Net's predictor is not installed (pip install nnunetv2): not measured.")
    else:
        print(f"  nnU-Net's predictor, 96³, step 0.5: {nnunet[False]:.3f} s; with mirroring {nnunet[True]:.3f} s")
    one_pass, runtime, all_of_it = (
        seconds["MONAI sliding window 96³, overlap 0.5"] / seconds["PyTorch fp32, one pass over the whole volume"],
        seconds["ours: brain box, one pass, PyTorch fp32"] / seconds["ours: brain box, one pass, OpenVINO fp32"],
        reference / seconds["ours: brain box, one pass, OpenVINO fp32"],
    )
    smaller = (
        seconds["PyTorch fp32, one pass over the whole volume"] / seconds["ours: brain box, one pass, PyTorch fp32"]
    )
    causes = f"one pass instead of windows {one_pass:.1f}x, brain box {smaller:.1f}x, runtime {runtime:.1f}x"
    print(f"Causes, fp32: {causes}; together {all_of_it:.1f}x")
    if given.json:
        given.json.write_text(
            json.dumps({"seconds": seconds, "gflop": gflop, "rates": rates, "nnunet": nnunet}, indent=2)
        )


if __name__ == "__main__":
    main()
