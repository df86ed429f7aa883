"""A thin part of an infarct is labelled and seen alike: its change is complete at its own middle."""

from __future__ import annotations

import pytest
import torch

from strokeseg_training.generator.lesion_head import Head
from strokeseg_training.generator.lesion_looks import Canvas, paint_acute
from strokeseg_training.generator.lesion_scene import AcuteLook
from strokeseg_training.generator.lesions import Lesions

SIZE, SPACING = 24, (2.0, 2.0, 2.0)
WHOLE = (slice(0, SIZE), slice(0, SIZE), slice(0, SIZE))
# D halved, sharp label, and a border of 8 mm in which the change is a third of the core's at first.
LOOK = AcuteLook(0.5, 1.4, 1.6, 8.0, 1 / 3, 10.0, 0.0, 0.5, 0.0, 0.0, cells=False, seed=3)


def painted(thickness_mm: float) -> tuple[Canvas, torch.Tensor]:
    """A plate of that thickness across x, and how deep (mm) each plane of x lies in it."""
    grey = torch.ones(SIZE, SIZE, SIZE)
    head = Head(grey, 0 * grey, 0 * grey, torch.zeros(3, SIZE, SIZE, SIZE), {}, SPACING)
    canvas = Lesions.none(1, (SIZE, SIZE, SIZE), torch.device("cpu")).canvas(0)
    middle = ((torch.arange(SIZE) - (SIZE - 1) / 2) * SPACING[0]).abs()
    depth = (thickness_mm / 2 - middle).view(-1, 1, 1).expand(SIZE, SIZE, SIZE).clone()
    paint_acute(canvas, head, WHOLE, depth, LOOK)
    return canvas, depth[:, 0, 0]


def test_a_thin_plate_is_as_strong_in_its_middle_as_a_thick_one():
    thin, _ = painted(8.0)
    thick, _ = painted(36.0)
    half = SIZE // 2
    core = float(thick.d_factor[half, half, half])
    assert core == pytest.approx(0.5, abs=0.01)
    assert float(thin.d_factor[half, half, half]) == pytest.approx(core, abs=0.03)


def test_the_border_of_a_thick_plate_stays_weak():
    thick, depth = painted(36.0)
    just_inside = int(torch.argmin(torch.where(depth > 0, depth, depth.new_tensor(99.0))))
    change = 1.0 - float(thick.d_factor[just_inside, 12, 12])
    assert float(thick.infarct[just_inside, 12, 12]) > 0.5
    assert 0.1 < change < 0.35  # the core's is 0.5


def test_a_flat_score_does_not_spread_the_label():
    """Far outside, where the score hardly falls, no share of infarct is left."""
    grey = torch.ones(SIZE, SIZE, SIZE)
    head = Head(grey, 0 * grey, 0 * grey, torch.zeros(3, SIZE, SIZE, SIZE), {}, SPACING)
    canvas = Lesions.none(1, (SIZE, SIZE, SIZE), torch.device("cpu")).canvas(0)
    depth = torch.full((SIZE, SIZE, SIZE), -0.2)
    depth[10:14, 10:14, 10:14] = 4.0
    paint_acute(canvas, head, WHOLE, depth, LOOK)
    assert float(canvas.infarct[12, 12, 12]) > 0.9
    assert float(canvas.infarct[:6].max()) < 1e-3
