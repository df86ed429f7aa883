"""Whether each recipe can learn four patients by heart: Dice on them, and the minutes that it took.

    python Testing/benchmarks/overfit.py [RECIPE[:LOSS] ...] [--threads 2] [--minutes 20] [--out FOLDER]

Four synthetic patients of the generator are written in the layout that the recipe reads, prepared by its rules on a
coarser grid, and learned by a smaller network, everything else by the recipe; what is changed is printed as ``--set``.
A run ends at the Dice that is wanted (of the ATLAS trio: of the main lesions), measured on whole volumes of these four,
or when its minutes are over. That a network learns by heart says that data, loss and optimiser fit each other, and
nothing about patients it has not seen. Figures are those of the computer that prints them; minutes of processor are
what its cores spent, whatever ran beside. The program ends with an error where a recipe did not reach the Dice.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _overfit_settings import BY_LOSS, EVERY_ONE, SMALLER, Task

SEEDS = range(40, 400)


def write_patients(folder: Path, task: Task, layout: str, least_ml: float) -> None:
    """Five patients of the generator, the first five seeds with so much lesion."""
    from strokeseg_training.generator.generator import Generator
    from strokeseg_training.generator.scene import GENERATOR_VERSION, draw_scene
    from strokeseg_training.synthesize import DataSet, write_data_set

    generator, chosen = Generator(library=None), []
    for seed in SEEDS:
        scene = draw_scene(seed, task)
        sample = generator.make([scene])
        x, y, z = sample.spacing_mm
        if float(sample.lesion.sum()) * x * y * z / 1000 >= least_ml:
            chosen.append(scene)
        if len(chosen) == 5:
            break
    write_data_set(chosen, generator, DataSet(folder, layout, task, GENERATOR_VERSION))


class Reached:
    """Asks a run to stop once a validation was good enough."""

    def __init__(self, run: Path, wanted: float) -> None:
        self._table, self._wanted = run / "validation.csv", wanted

    def __call__(self) -> bool:
        """Whether it was."""
        return self.best()[0] >= self._wanted

    def best(self) -> tuple[float, float | None, int]:
        """Dice of the first class, that of the second or None, and step, of the best validation so far."""
        if not self._table.is_file():
            return 0.0, None, 0
        with self._table.open(encoding="utf-8") as file:
            found = [
                (float(r.get("dice_1", r["dice"])), float(r["dice_2"]) if "dice_2" in r else None, int(r["step"]))
                for r in csv.DictReader(file)
            ]
        return max(found, key=lambda f: -1.0 if math.isnan(f[0]) else f[0], default=(0.0, None, 0))


def learn(name: str, loss: str, data: Path, prepared: Path, run: Path, threads: int, minutes: float) -> dict[str, Any]:
    """One row of the table."""
    from strokeseg.events import Monitor
    from strokeseg_training.fit.run import Limits, fit
    from strokeseg_training.prepare import load_data_recipe, prepare_data_set
    from strokeseg_training.recipe import load_recipe

    settings = [*SMALLER[name].settings, f"threads={threads}", f"data.prepared={prepared}"]
    settings += [f"objective.name={loss}", *BY_LOSS.get(loss, ())] if loss else []
    prepare_data_set(load_data_recipe(name, settings), data, prepared)
    reached, start = Reached(run, SMALLER[name].wanted), time.process_time()
    done = fit(
        load_recipe(name, settings), run, device="cpu", limits=Limits(minutes=minutes),
        monitor=Monitor(cancelled=reached),
    )  # fmt: skip
    dice, sub, step = reached.best()
    return {
        "recipe": name, "loss": loss or "its own", "wanted": SMALLER[name].wanted, "dice": dice, "sub_dice": sub,
        "step": step, "minutes": done.seconds / 60, "processor_minutes": (time.process_time() - start) / 60,
        "seconds_per_step": done.seconds / max(done.step, 1), "waiting_share": done.waiting_share, "set": settings,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    words.add_argument("recipes", nargs="*", default=EVERY_ONE, help="RECIPE or RECIPE:LOSS; default: all")
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--minutes", type=float, default=20.0, help="at most, for each recipe")
    words.add_argument("--out", type=Path, help="keep runs, and data for the next ones, there")
    words.add_argument("--json", type=Path, help="write the table there, too")
    given = words.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = given.out or Path(scratch)
        for word in given.recipes:
            name, _, loss = word.partition(":")
            if name not in SMALLER:
                words.error(f"there is no '{name}'; choose of {', '.join(SMALLER)}")
            task, layout, least_ml = SMALLER[name].task, SMALLER[name].layout, SMALLER[name].least_ml
            data = place / "data" / f"{layout}-{least_ml:g}ml"
            if not data.is_dir():
                start = time.perf_counter()
                write_patients(data, task, layout, least_ml)
                print(
                    f"five patients of {task} with {least_ml:g} ml or more in {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
            prepared, run = place / "prepared" / name, place / "runs" / word.replace(":", "-")
            row = learn(name, loss, data, prepared, run, given.threads, given.minutes)
            rows.append(row)
            print(f"{word}: Dice {row['dice']:.3f} after {row['step']} steps, {row['minutes']:.1f} min", flush=True)
    print("\n| recipe | loss | wanted | Dice | of sub-lesions | steps | minutes | of processor |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        sub = "" if r["sub_dice"] is None else f"{r['sub_dice']:.3f}"
        print(
            f"| {r['recipe']} | {r['loss']} | {r['wanted']} | {r['dice']:.3f} | {sub} | {r['step']} "
            f"| {r['minutes']:.1f} | {r['processor_minutes']:.1f} |"
        )
    print()
    for name in dict.fromkeys(r["recipe"] for r in rows):
        print(f"{name}: " + " ".join(f"--set '{s}'" for s in SMALLER[name].settings))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = [r for r in rows if r["dice"] < r["wanted"]]
    if missed:
        sys.exit(f"{len(missed)} of {len(rows)} did not reach the Dice that is wanted.")


if __name__ == "__main__":
    main()
