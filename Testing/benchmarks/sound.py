"""Whether what the generator made is sound, patient by patient, over the whole of one or more banks.

    python Testing/benchmarks/sound.py BANK [BANK ...]

Counts patients with an image that is not finite, an empty brain, tissue or lesion outside the brain, a fraction below
0 or above 1, a plane through the brain's middle that is none, or (where there are DWI, ADC and b0) an ADC that its own
DWI and b0 contradict, and prints what the patients look like as a whole. The program ends with an error where it
counted any. Images of a bank hold half-precision numbers, the brain's voxels and a margin.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from strokeseg_training.bank import Bank
from strokeseg_training.sample import Sample

# 1000 s/mm²: the b-value is found again from ln(b0 / DWI) / ADC; those stated wrongly on purpose lie within.
B_VALUES = (0.5, 2.5)
# Shares of the brain in which vendors clip an ADC, round it to nothing or mask it, and the quotient means nothing.
WEAK = 0.05


def faults(sample: Sample) -> Iterator[str]:
    """What is wrong with one patient (a batch of one), by name."""
    brain = sample.brain[0]
    for role, image in sample.images.items():
        if not bool(image.isfinite().all()):
            yield f"'{role}' is not finite"
    if not bool(brain.any()):
        yield "the brain is empty"
        return
    lesion, tissue = sample.lesion[0], sample.tissue[0]
    if not 0.0 <= float(lesion.min()) <= float(lesion.max()) <= 1.0:
        yield "a lesion's fraction is not from 0 to 1"
    if bool(lesion[~brain].any()):
        yield "lesion outside the brain"
    if bool(tissue[~brain].any()):
        yield "tissue outside the brain"
    if not 0.99 < float(sample.midplane[0, :3].norm()) < 1.01:
        yield "the middle plane has no direction"
    if {"dwi", "adc", "b0"} <= set(sample.images) and not consistent(sample):
        yield "DWI and b0 contradict the ADC"


def consistent(sample: Sample) -> bool:
    """Whether b0 is DWI times e^(b ADC) for one b of a scanner, in the middle of the patient's voxels."""
    dwi, adc, b0 = (sample.images[role][0][sample.brain[0]].double() for role in ("dwi", "adc", "b0"))
    known = (adc > 0.3) & (adc < 3.0) & (dwi > WEAK * dwi.median()) & (b0 > 0)
    if int(known.sum()) < 100:
        return False
    b = ((b0[known] / dwi[known]).log() / adc[known]).median()
    return B_VALUES[0] < float(b) < B_VALUES[1]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("banks", nargs="+", type=Path)
    given = parser.parse_args()
    found = 0
    for folder in given.banks:
        bank = Bank(folder)
        voxel_ml = float(torch.tensor(bank.manifest.spacing_mm).prod()) / 1000
        brains, lesions = [], []
        for k in range(len(bank)):
            sample = bank[k]
            for fault in faults(sample):
                found += 1
                print(f"{folder}: patient {sample.seeds[0]}: {fault}")
            brains.append(float(sample.brain.sum()) * voxel_ml)
            lesions.append(float(sample.lesion.sum()) * voxel_ml)
        held = torch.tensor([ml for ml in lesions if ml > 0.0])
        print(f"{folder}: {len(bank)} patients; brain {min(brains):.0f}-{max(brains):.0f} ml; {len(bank) - len(held)} "
              f"without lesion; lesions {_spread(held)}")  # fmt: skip
    if found:
        sys.exit(f"{found} faults.")


def _spread(volumes: torch.Tensor) -> str:
    if not len(volumes):
        return "none"
    low, middle, high = torch.quantile(volumes, torch.tensor([0.05, 0.5, 0.95])).tolist()
    return f"{low:.2f} / {middle:.1f} / {high:.0f} ml (5 %, median, 95 %)"


if __name__ == "__main__":
    main()
