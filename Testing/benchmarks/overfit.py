"""Whether each recipe can learn four patients by heart: Dice on them, and the minutes that it took.

    python Testing/benchmarks/overfit.py [RECIPE[:LOSS] ...] [--threads 2] [--minutes 20] [--out FOLDER]

Four synthetic patients of the generator are written in the layout that the recipe reads, prepared by its rules on a
coarser grid, and learned by a smaller network, everything else by the recipe; what is changed is printed as ``--set``.
A run ends at Dice 0.9 (of the ATLAS trio: of the main lesions), measured on whole volumes of these four, or when its
minutes are over. That a network learns by heart says that data, loss and optimiser fit each other, and nothing about
patients it has not seen. Figures are those of the computer that prints them. The program ends with an error where a
recipe did not reach the Dice.
"""

import argparse
import csv
import json
import math
import sys
import tempfile
import time
from pathlib import Path

WANTED = 0.9
# Patients with lesions of some size: a lesion of three voxels says nothing about a network.
SEEDS, LEAST_ML = range(40, 100), 5.0
# The set is small: one patient more goes to the side that is not used.
SPLIT = ["datasets.split={train: 0.8, val: 0, test: 0.2}"]
COMMON = [
    *SPLIT, "augmentation=null", "validation.epochs=0", "validation.side=train", "validation.every=25",
    "tensorboard=false", "data.flips=false", "data.workers=0", "precision=fp32", "checkpoint.every=100000",
    "log_every=25",
]  # fmt: skip
ATLAS = [
    *COMMON, "preparation.spacing_mm=[2,2,2]", "datasets.slices.size=[96,128]", "batch=16", "stages=[{steps: 100000}]",
    "network.arguments={channels: [8, 16, 32, 64, 64]}",
]  # fmt: skip
SMALLER = {
    "lesion-net": [
        *COMMON, "preparation.spacing_mm=[2,2,4]", "datasets.slices.size=[96,96]", "batch=16",
        "stages=[{steps: 100000}]",
        "network.arguments={width: 32, depths: [2, 2, 2, 2], heads: [2, 2, 2, 2], decoder_width: 32, drop_path: 0.0}",
        # 300 epochs of 187 patients are 128,000 steps; here there are a few hundred.
        "optimiser.lr=1e-3",
    ],
    "atlas-unet": ATLAS,
    "atlas-segnet": ATLAS,
    "atlas-resunet": ATLAS,
    "dwi-adc-finetune": [
        *COMMON, "preparation.spacing_mm=[3,3,3]", "network.arguments.channels=[8,16,32,64]", "init_from=null",
        "data.generator=null", "data.bank=null", "data.real_share=null", "data.extra_voxels=0", "accumulation=1",
        "loss.tissue=0", "validation.patience=0", "optimiser.lr=3e-3", "schedule.rule=constant",
        "stages=[{steps: 100000}]",
    ],
}  # fmt: skip
LOSSES = ("cce", "dice", "cce-dice")
DEFAULT = ["lesion-net", *(f"{n}:{loss}" for n in ("atlas-unet", "atlas-segnet", "atlas-resunet") for loss in LOSSES),
           "dwi-adc-finetune"]  # fmt: skip


def write_patients(folder, task, layout):
    """Five patients of the generator, the first five seeds whose lesions are large enough."""
    from strokeseg_training.generator.generator import Generator
    from strokeseg_training.generator.scene import GENERATOR_VERSION, draw_scene
    from strokeseg_training.synthesize import DataSet, write_data_set

    generator, chosen = Generator(library=None), []
    for seed in SEEDS:
        scene = draw_scene(seed, task)
        sample = generator.make([scene])
        x, y, z = sample.spacing_mm
        if float(sample.lesion.sum()) * x * y * z / 1000 >= LEAST_ML:
            chosen.append(scene)
        if len(chosen) == 5:
            break
    write_data_set(chosen, generator, DataSet(folder, layout, task, GENERATOR_VERSION))
    return folder


class Reached:
    """Asks a run to stop once a validation was good enough."""

    def __init__(self, run):
        self._table = run / "validation.csv"

    def __call__(self):
        return self.best()[0] >= WANTED

    def best(self):
        """Dice of the first class, that of the second or None, and step, of the best validation so far."""
        if not self._table.is_file():
            return 0.0, None, 0
        with self._table.open(encoding="utf-8") as file:
            found = [
                (float(r.get("dice_1", r["dice"])), float(r["dice_2"]) if "dice_2" in r else None, int(r["step"]))
                for r in csv.DictReader(file)
            ]
        return max(found, key=lambda f: -1.0 if math.isnan(f[0]) else f[0], default=(0.0, None, 0))


def learn(name, loss, data, out, threads, minutes):
    """One row of the table."""
    from strokeseg.events import Monitor
    from strokeseg_training.fit.run import Limits, fit
    from strokeseg_training.prepare import load_data_recipe, prepare_data_set
    from strokeseg_training.recipe import load_recipe

    settings = [*SMALLER[name], f"threads={threads}", f"data.prepared={out / 'set'}"]
    settings += [f"objective.name={loss}"] if loss else []
    prepare_data_set(load_data_recipe(name, settings), data, out / "set")
    reached = Reached(out / "run")
    done = fit(
        load_recipe(name, settings), out / "run", device="cpu", limits=Limits(minutes=minutes),
        monitor=Monitor(cancelled=reached),
    )  # fmt: skip
    dice, sub, step = reached.best()
    return {
        "recipe": name, "loss": loss or "its own", "dice": dice, "sub_dice": sub, "step": step,
        "minutes": done.seconds / 60,
        "seconds_per_step": done.seconds / max(done.step, 1), "waiting_share": done.waiting_share, "set": settings,
    }  # fmt: skip


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    words.add_argument("recipes", nargs="*", default=DEFAULT, help="RECIPE or RECIPE:LOSS; default: all")
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--minutes", type=float, default=20.0, help="at most, for each recipe")
    words.add_argument("--out", type=Path, help="keep runs and data there; what is there is not made again")
    words.add_argument("--json", type=Path, help="write the table there, too")
    given = words.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = given.out or Path(scratch)
        for word in given.recipes:
            name, _, loss = word.partition(":")
            if name not in SMALLER:
                words.error(f"there is no '{name}'; choose of {', '.join(SMALLER)}")
            task, layout = ("t1", "atlas-r1") if name.startswith("atlas") else ("dwi-adc", "isles22")
            data = place / task
            if not data.is_dir():
                start = time.perf_counter()
                write_patients(data, task, layout)
                print(f"five patients of {task} in {time.perf_counter() - start:.0f} s", flush=True)
            row = learn(name, loss, data, place / word.replace(":", "-"), given.threads, given.minutes)
            rows.append(row)
            print(f"{word}: Dice {row['dice']:.3f} after {row['step']} steps, {row['minutes']:.1f} min", flush=True)
    print(f"\n| recipe | loss | Dice | of sub-lesions | steps | minutes on {given.threads} cores | waiting for data |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        sub = "" if r["sub_dice"] is None else f"{r['sub_dice']:.3f}"
        print(
            f"| {r['recipe']} | {r['loss']} | {r['dice']:.3f} | {sub} | {r['step']} | {r['minutes']:.1f} "
            f"| {r['waiting_share']:.0%} |"
        )
    print()
    for name in dict.fromkeys(r["recipe"] for r in rows):
        print(f"{name}: " + " ".join(f"--set '{s}'" for s in SMALLER[name]))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = [r for r in rows if r["dice"] < WANTED]
    if missed:
        sys.exit(f"{len(missed)} did not reach a Dice of {WANTED}.")


if __name__ == "__main__":
    main()
