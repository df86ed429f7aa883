"""Seconds a slice of Lesion-Net at its published size: in its published form, and as the engine runs it.

    python Testing/benchmarks/lesion_net.py [--slices 16] [--rounds 3] [--threads 2] [--json FILE]

The published form is PyTorch with PyTorch's own attention, channels first, the grouped convolution of the feed-forward
part at once, interpolation before the decoder's 1x1 convolutions, one slice a call (phantoms/published_lesion_net.py).
Ours has channels last, fused attention and the grouped convolution in parts, convolves first (the two commute), takes
the slices of a batch together and runs in OpenVINO. Weights are random and the same in all ways, those of the norms and
their statistics, too, rounded to the half precision in which models are stored; the ways take turns, the least of all
rounds counts, and the program ends with an error where a logit of any slice, as it is timed, differs from the published
form's by more than 1e-4 or where the engine is not twice as fast. Figures are those of the computer that prints them.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "phantoms"))
from published_cards import published_card
from published_lesion_net import PublishedLesionNet, train_norms

SIZE = (128, 128, 1)
ALLOWED = 1e-4
# What the engine runs together on a CPU, in voxels; see `strokeseg.predict.plan`.
TOGETHER = 64**3 // (SIZE[0] * SIZE[1])
PUBLISHED, OURS = "as published, one slice a call", "OpenVINO, convolves first, slices together"
BAR = 2.0


def in_groups(run, batch, together):
    """Logits of all slices, so many of them a call."""
    return np.concatenate([run(batch[k : k + together]) for k in range(0, len(batch), together)])


def ways(folder, threads):
    """Name to a function from slices (N, 1, x, y, 1) to logits."""
    import torch

    from strokeseg.networks import build
    from strokeseg.runtime import open_runtime
    from strokeseg_training.export import export_model

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build("lesion-net")
    train_norms(network, seed=1)
    network = network.half().float().eval()
    print("exporting ...", flush=True)
    start = time.perf_counter()
    card = export_model(network, published_card("lesion-net"), folder).card
    if card.runtime != "openvino":
        raise SystemExit(f"The export made no graph: {card.runtime_reason}")
    print(f"exported in {time.perf_counter() - start:.0f} s", flush=True)
    opened = open_runtime(card, "cpu", runtime="openvino", threads=threads)

    published = PublishedLesionNet(network).eval()

    def torch_run(module, *, published_order=False):
        def run(batch):
            network.published_order = published_order
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return module(torch.from_numpy(batch)).numpy()

        return run

    def openvino_run(batch):
        return opened.run(batch)["lesion"]

    return {
        PUBLISHED: (torch_run(published), 1),
        "PyTorch, interpolates first, one slice a call": (torch_run(network, published_order=True), 1),
        "PyTorch, convolves first, one slice a call": (torch_run(network), 1),
        "PyTorch, convolves first, slices together": (torch_run(network), TOGETHER),
        "OpenVINO, convolves first, one slice a call": (openvino_run, 1),
        OURS: (openvino_run, TOGETHER),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--slices", type=int, default=TOGETHER)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    batch = np.random.default_rng(0).standard_normal((given.slices, 1, *SIZE), dtype=np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        every_way = ways(Path(scratch) / "lesion-net", given.threads)
    # The first call of each is not counted: libraries prepare themselves.
    for run, together in every_way.values():
        in_groups(run, batch[:2], min(together, 2))
    logits, seconds = {}, {name: [] for name in every_way}
    for _ in range(given.rounds):
        for name, (run, together) in every_way.items():
            start = time.perf_counter()
            found = in_groups(run, batch, together)
            seconds[name].append((time.perf_counter() - start) / given.slices)
            logits[name] = found
    least = {name: min(values) for name, values in seconds.items()}
    apart = {name: float(np.abs(values - logits[PUBLISHED]).max()) for name, values in logits.items()}
    processor = platform.processor() or platform.machine()
    print(f"\n{processor}, {given.threads} threads, load {os.getloadavg()[0]:.1f}, {given.slices} slices, "
          f"least of {given.rounds} rounds, logits up to {np.abs(logits[PUBLISHED]).max():.3g}")  # fmt: skip
    for name, value in least.items():
        faster = least[PUBLISHED] / value
        print(f"  {name:<46} {value:7.3f} s a slice  {faster:5.2f}x  differs by {apart[name]:.1e}")
    theirs, units, order, together, alone, ours = least.values()
    print(f"Causes: units {theirs / units:.2f}x, order {units / order:.2f}x, runtime {order / alone:.2f}x, together in "
          f"it {alone / ours:.2f}x (PyTorch {order / together:.2f}x); in all {theirs / ours:.2f}x")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps({"seconds_a_slice": seconds, "apart": apart}, indent=2), encoding="utf-8")
    if max(apart.values()) > ALLOWED:
        raise SystemExit(f"The ways differ by {max(apart.values()):.2g}; {ALLOWED:g} is allowed.")
    if theirs < BAR * ours:
        raise SystemExit(f"The engine is {theirs / ours:.2f}x as fast as the published form; {BAR:g}x is asked for.")


if __name__ == "__main__":
    main()
