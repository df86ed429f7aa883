"""How long the generator takes for one patient, room by room, on one thread.

    python Testing/benchmarks/generator.py [--recipe t1] [--masks FOLDER] [--count 20] [--device cuda:0]

Prints seconds a patient (mean, median, largest) and the share of each room; the processor's own time where the device
is the CPU, so that other programs beside it count less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest import mock

import torch

from strokeseg_training.generation import open_source
from strokeseg_training.generator import generator as rooms
from strokeseg_training.generator.generator import Generator

ROOMS = (
    "make_anatomy",
    "make_lesions",
    "make_distractors",
    "diffusion_signals",
    "t1_signal",
    "altered_fractions",
    "acquire",
    "assemble",
)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="dwi-adc", help="whose task and ranges are used (default dwi-adc)")
    parser.add_argument("--masks", help="folder with lesion masks; default: the recipe's, or none")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = torch.device(options.device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    spent: dict[str, float] = dict.fromkeys(ROOMS, 0.0)

    def settled() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    def timed(name: str, room: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(room)
        def run(*given: Any, **named: Any) -> Any:
            start = settled()
            try:
                return room(*given, **named)
            finally:
                spent[name] += settled() - start

        return run

    source = open_source(None, options.recipe, options.masks)
    generator = Generator(library=source.library, device=device)
    generator.make(source.scenes([options.seed]))
    with mock.patch.multiple(rooms, **{name: timed(name, getattr(rooms, name)) for name in ROOMS}):
        seconds = []
        for seed in range(options.seed, options.seed + options.count):
            start = settled()
            generator.make(source.scenes([seed]))
            seconds.append(settled() - start)
    print(f"{options.recipe}, {options.count} patients one by one on {device}, one thread:")
    print(
        f"  mean {statistics.mean(seconds):.3f} s, median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s"
    )
    for name, total in spent.items():
        if total:
            print(f"  {total / options.count:7.3f} s  {100 * total / sum(seconds):3.0f} %  {name}")
    rest = sum(seconds) - sum(spent.values())
    print(f"  {rest / options.count:7.3f} s  {100 * rest / sum(seconds):3.0f} %  drawing the scene and the rest")


if __name__ == "__main__":
    main()
