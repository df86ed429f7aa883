"""Memory and time of a training step, beside what `fit` expects of it before it starts.

    python Testing/benchmarks/training_memory.py [--device cpu] [--network residual-unet] [--arguments JSON]
        [--size 64 64 64] [--batch 1] [--threads 2] [--json FILE]

Each way runs in a process of its own: fp32 and bf16, the network's numbers in the other order (channels last), and
gradient checkpointing where the network has it. On a GPU, memory is what PyTorch had allocated at most; on a CPU, by
how much the process's peak grew from the moment at which everything was imported. Steps are those of Lightning's
arithmetic without Lightning: forward, Dice, backward, AdamW. Figures are those of the computer that prints them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("fp32", "fp32 channels-last", "fp32 checkpointing", "bf16", "bf16 channels-last", "bf16 checkpointing")
COUNTED = 3


def recipe_for(given, way):
    import runpy

    from strokeseg_training.recipe import recipe_of

    phantom = runpy.run_path(str(Path(__file__).resolve().parents[1] / "training" / "fit_phantom.py"))
    arguments = {"in_channels": 2, "out_channels": 1, **given.arguments}
    arguments |= {"checkpointing": True} if "checkpointing" in way else {}
    # A step is made here, no crop: the multiple is one that every network takes.
    preparation = {"spacing_mm": [4, 4, 4], "multiple": 128, "channels": ["dwi_ratio", "adc"]}
    return recipe_of(
        phantom["recipe_data"](
            preparation=preparation,
            network={"name": given.network, "arguments": arguments}, precision=way.split()[0], batch=given.batch,
            channels_last="channels-last" in way, loss={"dice": 1.0}, threads=given.threads,
        ),
        "benchmark",
    )  # fmt: skip


def measure(given, way):
    """Bytes and seconds of a way, in this process."""
    import psutil
    import torch

    from strokeseg_training.fit.memory import estimate
    from strokeseg_training.fit.module import TrainingModule

    torch.set_num_threads(given.threads)
    recipe = recipe_for(given, way)
    shape = (given.batch, 2, *given.size)
    expected = estimate(recipe, shape)
    device = torch.device(given.device)
    peak = Peak(device, psutil.Process())
    module = TrainingModule(recipe).to(device).train()
    network, averaged = module.network, module.averaged
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    batch = torch.rand(shape, device=device)
    label = (torch.rand(given.batch, *given.size, device=device) > 0.9).float()
    if recipe.channels_last and batch.shape[-1] > 1:
        batch = batch.contiguous(memory_format=torch.channels_last_3d)
    seconds = []
    for _ in range(COUNTED + 1):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            found = network(batch)
        outputs = [*found.values()] if isinstance(found, dict) else [found]
        losses = []
        for output in outputs:
            wanted = torch.nn.functional.interpolate(label[:, None], output.shape[2:])
            probability = torch.sigmoid(output.float())
            losses.append(1 - (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1))
        torch.stack(losses).sum().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    del averaged
    return {"way": way, "expected": expected.total, "measured": peak.bytes(), "seconds": min(seconds[1:])}


class Peak:
    """How far memory grew."""

    def __init__(self, device, process):
        import torch

        self._device, self._before = device, process.memory_info().rss
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def bytes(self):
        import torch

        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - self._before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default="residual-unet")
    parser.add_argument("--arguments", type=json.loads, default={})
    parser.add_argument("--size", type=int, nargs=3, default=[64, 64, 64])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given, given.way)))
        return
    found = []
    for way in WAYS:
        # The arguments are those of this program, and one more.
        done = subprocess.run(
            [sys.executable, *sys.argv, "--way", way], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
        )  # fmt: skip
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["nothing said"]
            print(f"{way:22} not possible: {last[0][:90]}")
            continue
        found.append(json.loads(done.stdout.splitlines()[-1]))
        one = found[-1]
        print(
            f"{way:22} expected {one['expected'] / 1e6:8.0f} MB, measured {one['measured'] / 1e6:8.0f} MB, "
            f"{one['seconds']:7.3f} s a step"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
