"""Old infarcts and what surrounds them: shrinkage, horns of the ventricles, cysts, and depth in true millimetres."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strokeseg_training.generator.anatomy import AnatomyRanges, draw_anatomy, make_anatomy
from strokeseg_training.generator.anatomy_spaces import Cyst, cyst_distance, draw_cysts, horn_distance
from strokeseg_training.generator.chronic import draw_chronic, paint_chronic
from strokeseg_training.generator.lesion_depth import millimetres
from strokeseg_training.generator.lesion_head import Head
from strokeseg_training.generator.lesion_looks import Canvas
from strokeseg_training.generator.lesion_scene import ChronicLook, LesionRanges, Pull
from strokeseg_training.generator.shrinkage import Shrinkage
from strokeseg_training.generator.template import load_template

SHAPE, SPACING = (54, 64, 54), (3.0, 3.0, 3.0)
ML = 0.027


@pytest.fixture(scope="module")
def template():
    return load_template()


def plain():
    scene = draw_anatomy(np.random.default_rng([0, 1]), AnatomyRanges())
    return replace(scene, rotation_deg=(0.0,) * 3, bend_mm=(0.0,) * 3, petalia_mm=0.0, lopsided=0.0, patchiness=0.0)


def made(template, scene, widening=None):
    return make_anatomy([scene], template, SHAPE, SPACING, torch.device("cpu"), [widening])


def sides(anatomy, name):
    """Millilitres of a region on the patient's right and left."""
    share, right = anatomy.regions[name][0], anatomy.mni_mm[0, 0] > 0
    return float(share[right].sum()) * ML, float(share[~right].sum()) * ML


def a_block():
    """A head of white matter, 40 mm a side, voxels of 2 mm."""
    one = torch.ones(20, 20, 20)
    return Head(0 * one, one, 0 * one, torch.zeros(3, 20, 20, 20), {}, (2.0, 2.0, 2.0))


def a_canvas():
    one = torch.ones(20, 20, 20)
    return Canvas(0 * one, one.clone(), one.clone(), one.clone(), 0 * one)


def ball(radius_mm):
    line = (torch.arange(20.0) - 9.5) * 2.0
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    return radius_mm - (x**2 + y**2 + z**2).sqrt()


WHOLE = (slice(0, 20), slice(0, 20), slice(0, 20))


def test_ventricles_open_towards_a_scar_and_not_on_the_other_side(template):
    healthy = sides(made(template, plain()), "ventricles")
    scar = Shrinkage((Pull((45.0, -10.0, 20.0), 40.0, 0.0, 6.0),))
    right, left = sides(made(template, plain(), scar), "ventricles")
    assert right > 1.5 * healthy[0]
    assert left == pytest.approx(healthy[1], rel=0.1)


def test_opening_is_widest_at_the_scar_and_ends_at_the_midline():
    places = torch.tensor([[45.0, 0.0, 0.0], [25.0, 0.0, 0.0], [-25.0, 0.0, 0.0]]).T
    opening = Shrinkage((Pull((45.0, 0.0, 0.0), 20.0, 0.0, 5.0),)).opening(places)
    assert float(opening[0]) == pytest.approx(5.0, rel=1e-3)
    # 20 mm away, at 1.3 times the pull's radius as standard deviation.
    assert float(opening[1]) == pytest.approx(5.0 * np.exp(-0.5 * (20 / 26) ** 2), rel=1e-3)
    assert float(opening[2]) < 1e-3
    midline = Shrinkage((Pull((2.0, 0.0, 0.0), 20.0, 0.0, 5.0),)).opening(places)
    assert float(midline[2]) > 0.5, "a scar at the midline opens both sides"


def test_horns_have_their_width_on_their_side():
    # On the temporal course's bend at (36, -27, -12), 3 mm above it, on the other side, and far from everything.
    places = torch.tensor([[36.0, -27, -12], [36, -27, -9], [-36, -27, -12], [0, 40, 40]]).T
    distance = horn_distance(places, (4.0, 0.0, 0.0, 0.0), 1.0)
    width = 4.0 * (1 - 0.4 * 2 / 4)  # half way to the tip
    assert float(distance[0]) == pytest.approx(-width, abs=0.05)
    assert -width < float(distance[1]) < 3.0 - width + 0.05
    assert distance[2:].tolist() == [12.0, 12.0]


def test_horns_are_fluid_of_the_ventricles_and_only_where_they_are_asked_for(template):
    without, both = made(template, plain()), made(template, replace(plain(), horns_mm=(3.0, 3.0, 3.0, 3.0)))
    more = [b - a for a, b in zip(sides(without, "ventricles"), sides(both, "ventricles"), strict=True)]
    assert all(1.0 < ml < 10.0 for ml in more), more
    assert float((both.fractions.sum(1) - both.brain).abs().max()) < 1e-5
    far = (without.mni_mm[0, 2] > 30)[None]
    assert torch.equal(without.fractions.movedim(1, -1)[far], both.fractions.movedim(1, -1)[far])


def test_a_cyst_is_fluid_and_takes_the_place_of_tissue(template):
    cyst = Cyst((44.0, -20.0, 40.0), (12.0, 12.0, 12.0))
    scene = plain()
    fluid = [float(made(template, replace(scene, cysts=c)).fractions[0, 2].sum()) * ML for c in ((), (cyst,))]
    ball_ml = 4 / 3 * np.pi * (12 * scene.size) ** 3 / 1000
    assert 0.4 * ball_ml < fluid[1] - fluid[0] < 1.1 * ball_ml
    points = torch.tensor([[44.0, -20.0, 40.0], [44.0, -20.0, 55.0]]).T
    assert cyst_distance(points, (cyst,)).tolist() == pytest.approx([-12.0, 3.0])


def test_brains_have_neither_horns_nor_cysts_unless_the_ranges_say_so():
    for seed in range(20):
        scene = draw_anatomy(np.random.default_rng([seed, 1]), AnatomyRanges())
        assert scene.horns_mm == (0.0, 0.0, 0.0, 0.0)
        assert scene.cysts == ()
        other = draw_anatomy(
            np.random.default_rng([seed, 1]), AnatomyRanges(temporal_horn_mm=(1.0, 3.0), cyst_share=1.0)
        )
        assert other.cysts
        assert min(other.horns_mm[:2]) > 0
        # What was drawn before is as it was: other brains do not change.
        assert replace(other, horns_mm=scene.horns_mm, cysts=()) == scene


def test_cysts_come_as_often_as_asked_for():
    drawn = [draw_cysts(np.random.default_rng(seed), 0.3, (8.0, 20.0)) for seed in range(400)]
    assert sum(bool(c) for c in drawn) / 400 == pytest.approx(0.3, abs=0.06)


def test_depth_of_a_flat_score_becomes_millimetres():
    head, true = a_block(), ball(12.0)
    # The same border, but a slope of a twentieth: half of the block would be border.
    flat = millimetres(0.05 * true, head)
    near = true.abs() < 8.0
    assert float((flat - true)[near].abs().max()) < 2.0
    assert torch.equal(flat > 0, true > 0)


@pytest.mark.parametrize("balls", [False, True])
def test_cavities_lie_in_the_scar_and_strands_thin_them(balls):
    look = ChronicLook(1.5, 1.0, 0.6, 3.0, 0.6, 4.0, 5, 0.0, balls)
    plain_one, crossed = a_canvas(), a_canvas()
    paint_chronic(plain_one, a_block(), WHOLE, ball(14.0), look)
    paint_chronic(crossed, a_block(), WHOLE, ball(14.0), replace(look, strands=0.8))
    label = plain_one.infarct > 0.5
    assert float(label.sum()) * 0.008 == pytest.approx(4 / 3 * np.pi * 1.4**3, rel=0.1)
    assert 0.3 < float((plain_one.cavity * plain_one.infarct).sum() / label.sum()) < 0.75
    assert not bool((plain_one.cavity > 0.5)[~label].any())
    assert float(crossed.cavity.sum()) < 0.9 * float(plain_one.cavity.sum())
    assert torch.equal(plain_one.infarct, crossed.infarct)


def test_every_scar_of_the_cerebrum_can_draw_on_its_surroundings():
    ranges = LesionRanges(empty_share=0.0, style="exam", pull_mm=(4.0, 8.0), open_mm=(3.0, 6.0))
    scenes = [draw_chronic(np.random.default_rng([seed, 2]), ranges, None) for seed in range(60)]
    large = [s for s in scenes if s.parts[0].volume_ml > 30.0 and s.parts[0].territory not in {"pica", "sca", "aica"}]
    assert large
    for scene in large:
        (pull,) = scene.pulls
        assert pull.open_mm >= 3.0
        assert pull.amount_mm >= 4.0
    assert all(not s.pulls for s in scenes if s.parts[0].volume_ml < 0.5)
