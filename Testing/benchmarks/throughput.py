"""Seconds a training step of `strokeseg-train fit`, of a loop written by hand, and of nnU-Net's own trainer.

    python Testing/benchmarks/throughput.py [--steps 20] [--size 48] [--batch 2] [--threads 1] [--workers 1]
        [--rounds 2] [--precision fp32] [--nnunet PYTHON] [--json FILE]

All train the residual U-Net at the size of the recipe `dwi-adc` (4 channels, one logit, 5,104,497 parameters) on a CPU
with crops of `--size` voxels a side of the same eight patients of random blobs, as many a batch, and with as many
threads, worker processes and bits. What each does beside forward, backward and the optimiser's step is printed with the
figures: they are times of whole trainers, not of the same arithmetic.

The way "fit" is the command itself, and reads a bank. The way "plain loop" has fit's loss and optimiser and reads files
with what fit's network saw of the same patients. The way "nnU-Net" is its trainer with our network in the place of its
own, one output, and its own loss, optimiser, loader and augmentation; it runs under the interpreter `--nnunet`, which
needs nnunetv2 and PyTorch, and computes in fp32 on every CPU.

The ways take turns, each in a process of its own. The median of a round's steps after the first five counts, and the
least of all rounds. A step lasts from one to the next, with all that lies between. Figures are those of the computer
that prints them.
"""

import argparse
import csv
import json
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).resolve()
PHANTOM = HERE.parents[1] / "training" / "fit_phantom.py"
THEIRS = HERE.with_name("_throughput_nnunet.py")
UNCOUNTED, PATIENTS = 5, 8
ARGUMENTS = {"in_channels": 4, "out_channels": 1}
CHANNELS = ["dwi_ratio", "adc", "dwi_mirror_log_ratio", "adc_mirror_log_ratio"]
FIT, PLAIN, NNUNET = "fit", "plain loop", "nnU-Net"
DOES = {
    FIT: "makes channels from images, crops around the brain, flips; averages weights, clips gradients, writes a row "
    "of its log after each step; Dice and cross-entropy, AdamW",
    PLAIN: "nothing else; Dice and cross-entropy, AdamW",
    NNUNET: "cuts out a larger patch, turns, scales, blurs, adds noise and five more; clips gradients; Dice and "
    "cross-entropy of its own, SGD with momentum",
}


def write_inputs(folder, given):
    """A bank, a recipe in which a row of the log is a step, and the same patients as the network sees them."""
    from strokeseg_training.bank import Bank
    from strokeseg_training.bank_writing import write_bank
    from strokeseg_training.fit.batches import Prepare
    from strokeseg_training.recipe import recipe_of

    phantom = SimpleNamespace(**runpy.run_path(str(PHANTOM)))
    cubes = (phantom.patient(seed, (given.size,) * 3) for seed in range(1, PATIENTS + 1))
    write_bank(cubes, folder / "bank", about={}, shard_size=PATIENTS)
    data = phantom.recipe_data(
        network={"name": "residual-unet", "arguments": ARGUMENTS},
        # All crops are of one size.
        preparation={"spacing_mm": [4, 4, 4], "margin_voxels": 0, "multiple": given.size, "channels": CHANNELS},
        data={"bank": "bank", "workers": given.workers, "prefetch": 4, "flips": True},
        optimiser={"lr": 1e-3, "weight_decay": 1e-2},
        loss={"dice": 1.0, "bce": 1.0},
        batch=given.batch,
        ema_decay=0.999,
        gradient_clip=5,
        precision=given.precision,
        threads=given.threads,
        checkpoint={"every": 10 * given.steps},
        stages=[{"steps": UNCOUNTED + given.steps}],
    )
    recipe = recipe_of(data, "benchmark")
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    prepare, bank = Prepare(recipe), Bank(folder / "bank")
    (folder / "prepared").mkdir()
    for number in range(PATIENTS):
        batch = prepare(bank.samples([number]), [number])
        assert batch.channels.shape[2:] == (given.size,) * 3
        columns = {"channels": batch.channels, **batch.target._asdict()}
        # Stored as they are: nothing is to be unpacked.
        np.savez(folder / "prepared" / f"{number}.npz", **{name: values[0].numpy() for name, values in columns.items()})


class Prepared:
    """The prepared patients in turn, as samples without end."""

    def __init__(self, folder, length):
        self._folder, self._length = folder, length

    def __len__(self):
        return self._length

    def __getitem__(self, number):
        with np.load(self._folder / f"{number % PATIENTS}.npz") as stored:
            return dict(stored)


def plain_loop(given):
    """The loop, in this process: seconds of each step, and of waiting for data in it."""
    import torch
    from torch.utils.data import DataLoader

    from strokeseg.networks import build
    from strokeseg_training.losses import LossTerms, Target
    from strokeseg_training.recipe import load_recipe

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    recipe = load_recipe(given.folder / "recipe.yaml")
    network = build(recipe.network.name, **recipe.network.arguments).train()
    terms = LossTerms(recipe.loss, recipe.preparation.spacing_mm)
    settings = recipe.optimiser
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    samples = Prepared(given.folder / "prepared", recipe.steps * given.batch)
    loader = DataLoader(samples, given.batch, num_workers=given.workers, prefetch_factor=4 if given.workers else None)
    steps, start = [], time.perf_counter()
    for batch in loader:
        waited = time.perf_counter() - start
        channels = batch.pop("channels")
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network(channels)
        loss = terms({"lesion": logits}, Target(**batch))["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loss.item()
        now = time.perf_counter()
        steps.append((now - start, waited))
        start = now
    return {"steps": steps, "torch": torch.__version__}


def run(command, folder, given, **environment):
    """A program's standard output; the end of this one where it fails."""
    threads = {"OMP_NUM_THREADS": str(given.threads), "MKL_NUM_THREADS": str(given.threads)}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **threads, **environment}
    )
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return done.stdout


def of_fit(folder, name, given):
    """Steps of the command, from its log."""
    import torch

    command = [sys.executable, "-m", "strokeseg_training.cli", "fit", "--recipe", "recipe.yaml", "--out", name]
    run([*command, "--device", "cpu"], folder, given)
    with (folder / name / "train.csv").open() as file:
        rows = [(float(r["seconds_per_step"]), float(r["waiting_share"])) for r in csv.DictReader(file)]
    return {"steps": [(seconds, seconds * share) for seconds, share in rows], "torch": torch.__version__}


def of_plain(folder, name, given):
    """Steps of the loop by hand."""
    return json.loads(run([sys.executable, str(HERE), *sys.argv[1:], "--folder", str(folder)], folder, given))


def of_nnunet(folder, name, given):
    """Steps of nnU-Net's trainer."""
    import strokeseg

    kept = folder / name
    places = {f"nnUNet_{kind}": str(kept / kind) for kind in ("raw", "preprocessed", "results")}
    said = {
        "prepared": str(folder / "prepared"), "size": given.size, "batch": given.batch, "threads": given.threads,
        "steps": UNCOUNTED + given.steps, "arguments": ARGUMENTS, "out": str(kept / "steps.json"), "places": places,
        "strokeseg": str(Path(strokeseg.__file__).parents[1]),
    }  # fmt: skip
    kept.mkdir()
    run([given.nnunet, str(THEIRS), json.dumps(said)], folder, given, nnUNet_n_proc_DA=str(given.workers), **places)
    return json.loads((kept / "steps.json").read_text())


def why_not_nnunet(given):
    """Why its trainer cannot be measured; empty where it can."""
    if not given.nnunet:
        return "no interpreter that has it was given with --nnunet"
    if given.precision != "fp32":
        return f"it computes in fp32 on a CPU, not in {given.precision}"
    found = subprocess.run(
        [given.nnunet, "-c", "import nnunetv2.training.nnUNetTrainer.nnUNetTrainer"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if not found.returncode:
        return ""
    last = found.stderr.strip().splitlines()[-1:] or ["nothing said"]
    if "No module named 'nnunetv2'" in last[0]:
        return f"nnunetv2 is not installed in {given.nnunet}"
    return f"nnunetv2 cannot be loaded in {given.nnunet}: {last[0]}"


def summary(rounds):
    """Of a way: the least of its rounds' medians, the share of waiting in that round, and all medians."""
    medians = [statistics.median(seconds for seconds, _ in r["steps"][UNCOUNTED:]) for r in rounds]
    best = medians.index(min(medians))
    counted = rounds[best]["steps"][UNCOUNTED:]
    waiting = sum(waited for _, waited in counted) / sum(seconds for seconds, _ in counted)
    return {"seconds": medians[best], "waiting_share": waiting, "rounds": medians, "torch": rounds[best]["torch"]}


def report(found, missing, given):
    """Print the table."""
    processor = platform.processor() or platform.machine()
    print(
        f"{processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.threads} thread(s), "
        f"{given.workers} worker(s), {given.precision}; batches of {given.batch} cubes of {given.size}^3; median of "
        f"{given.steps} steps, least of {given.rounds} rounds"
    )
    ours = found[FIT]["seconds"]
    for way, one in found.items():
        print(
            f"  {way:<10}  {one['seconds']:7.3f} s a step  {given.batch / one['seconds']:6.2f} samples/s  "
            f"{one['seconds'] / ours:5.2f} times fit's  waits {one['waiting_share']:4.0%}  "
            f"rounds {', '.join(f'{r:.3f}' for r in one['rounds'])}  PyTorch {one['torch']}"
        )
    for way, reason in missing.items():
        print(f"  {way:<10}  not measured: {reason}")
    print("What each does beside forward, backward and the optimiser's step:")
    for way in found:
        print(f"  {way:<10}  {DOES[way]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--nnunet", metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.size % 16:
        parser.error("--size must be a multiple of 16: the network halves it four times")
    if given.folder:
        print(json.dumps(plain_loop(given)))
        return
    ways = {FIT: of_fit, PLAIN: of_plain, NNUNET: of_nnunet}
    reason = why_not_nnunet(given)
    missing = {NNUNET: reason} if reason else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, given)
        rounds = {way: [] for way in ways if way not in missing}
        for number in range(given.rounds):
            for way, steps in rounds.items():
                steps.append(ways[way](folder, f"{way.replace(' ', '-')}{number}", given))
    found = {way: summary(steps) for way, steps in rounds.items()}
    report(found, missing, given)
    if given.json:
        said = {"given": vars(given), "found": found, "not_measured": missing, "all": rounds}
        given.json.write_text(json.dumps(said, indent=2, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
