"""Brains of the generator: places, sizes, ageing, deformation, planes, and the head around them."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from strokeseg_training.generator.anatomy import AnatomyRanges, AnatomyScene, draw_anatomy, make_anatomy
from strokeseg_training.generator.head import (
    HEAD_TISSUES,
    Head,
    HeadRanges,
    draw_head,
    head_signals,
    head_t1,
    make_head,
)
from strokeseg_training.generator.template import Maps, load_template
from strokeseg_training.generator.warp import axes_mm, flow, lattice_nodes, spline

CPU = torch.device("cpu")
SHAPE, SPACING = (80, 96, 80), (2.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def template():
    return load_template()


def drawn(seed: int) -> AnatomyScene:
    return draw_anatomy(np.random.default_rng([seed, 1]), AnatomyRanges())


def straight(**changes) -> AnatomyScene:
    """The template itself: no bends, no turn, no asymmetry, no random fields, middle age."""
    scene = replace(
        drawn(0),
        size=0.9,
        axes=(1.0, 1.0, 1.0),
        rotation_deg=(0.0, 0.0, 0.0),
        shift_mm=(0.0, 0.0, 0.0),
        bend_mm=(0.0, 0.0, 0.0),
        petalia_mm=0.0,
        lopsided=0.0,
        patchiness=0.0,
        folding=0.0,
        new_sulci_mm=0.0,
        sulcus_mm=0.4,
        rim_mm=0.5,
        cistern_mm=0.2,
        sylvian=1.3,
        ventricle_push_mm=2.0,
        ventricle_mm=0.5,
        whiteness=0.8,
        cortex_mm=1.8,
        contrast=1.5,
        edge_mm=0.2,
    )
    return replace(scene, **changes)


def aged(scene: AnatomyScene, part: float) -> AnatomyScene:
    ranges = AnatomyRanges()
    names = ("sulcus_mm", "rim_mm", "cistern_mm", "sylvian", "ventricle_push_mm", "ventricle_mm")
    between = {n: (1 - part) * getattr(ranges, n)[0] + part * getattr(ranges, n)[1] for n in names}
    return replace(scene, **between)


def make(template, *scenes, shape=SHAPE, spacing=SPACING):
    return make_anatomy(scenes, template, shape, spacing, CPU)


def fluid_share(anatomy) -> float:
    return float(anatomy.fractions[:, 2].sum() / anatomy.brain.sum())


def millilitres(share, spacing=SPACING) -> float:
    return float(share.sum()) * float(np.prod(spacing)) / 1000


def test_maps_are_read_linearly_and_go_on_beyond_their_border():
    x, y, z = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), torch.arange(6.0), indexing="ij")
    maps = Maps(torch.stack([x + 10 * y + 100 * z, z], -1).half(), ("sum", "z"), (-2.0, 0.0, 4.0), 2.0)

    # The point (1, 3, 5) is voxel (1.5, 1.5, 0.5): 1.5 + 15 + 50. The second lies far above the last voxel.
    points = torch.tensor([[1.0, 3.0, 5.0], [-2.0, 0.0, 99.0]]).T
    np.testing.assert_allclose(maps.at(points), [[66.5, 0.5], [500.0, 5.0]], rtol=1e-3)


def test_regions_lie_where_anatomy_has_them(template):
    points = {
        "cerebellum": (25, -65, -38),
        "stem": (0, -26, -32),
        "deep_grey": (11, -18, 8),
        "insula": (38, 2, 0),
        "mca_right": (52, -20, 25),
        "aca_right": (5, 35, 30),
        "pca_right": (10, -85, 4),
        "near_air_petrous": (47, -22, -40),
        "watershed": (27, -8, 26),
        "tracts": (23, -14, 12),
        "pica": (20, -70, -50),
        "sca": (10, -55, -16),
    }
    for name, place in points.items():
        maps = template.surfaces if name in template.surfaces.names else template.regions
        values = maps.at(torch.tensor(place, dtype=torch.float32)[:, None])[0]
        least = 0.35 if name in {"tracts", "watershed", "near_air_petrous"} else 0.6
        assert values[maps.names.index(name)] > least, name
    for place in ((6, 10, 12), (0, -42, -33)):  # frontal horn, fourth ventricle
        values = template.surfaces.at(torch.tensor(place, dtype=torch.float32)[:, None])[0]
        assert values[template.surfaces.names.index("ventricle")] < 0.5, place


def test_territories_share_the_cerebrum_and_mirror_each_other(template):
    maps = {n: template.regions.named(n) for n in template.regions.names}
    total = sum(maps[f"{a}_{s}"] for a in ("aca", "mca", "pca") for s in ("left", "right"))
    cerebrum = (maps["cortex"] > 0.95) & (maps["reach"] > 4)
    assert float(((total[cerebrum] - 1).abs() < 0.05).float().mean()) > 0.98
    left, right = float(maps["mca_left"].sum()), float(maps["mca_right"].sum())
    assert left == pytest.approx(right, rel=0.03)
    share = {a: float((maps[f"{a}_left"] + maps[f"{a}_right"]).sum() / total.sum()) for a in ("aca", "mca", "pca")}
    assert share["mca"] > share["pca"] > 0.1
    assert share["aca"] > 0.1


def test_air_is_nearest_at_the_skull_base(template):
    near = template.regions.named("near_air")
    inside = template.regions.named("reach") > 0
    z = torch.arange(near.shape[2]) * 2.0 + template.regions.origin_mm[2]
    close = (near > 0.4) & inside
    heights = z.expand_as(near)[close]
    assert close.sum() > 500
    assert float((heights < 0).float().mean()) > 0.85


def test_tissue_fractions_add_up_to_the_brain(template):
    anatomy = make(template, drawn(1), drawn(2))

    assert torch.isfinite(anatomy.fractions).all()
    assert float(anatomy.fractions.min()) >= 0
    torch.testing.assert_close(anatomy.fractions.sum(1), anatomy.brain, atol=2e-6, rtol=0)
    cut = (anatomy.brain > 0.02) & (anatomy.brain < 0.98)
    assert float(cut.sum() / (anatomy.brain > 0.5).sum()) < 0.25
    assert ((anatomy.tissue > 0) == (anatomy.brain > 0.5)).float().mean() > 0.97
    assert set(anatomy.tissue.unique().tolist()) == {0, 1, 2, 3}


def test_the_same_scene_gives_the_same_brain_alone_and_in_a_batch(template):
    scene = drawn(3)
    again = TypeAdapter(AnatomyScene).validate_json(json.dumps(asdict(scene)))
    assert again == scene
    both, alone = make(template, drawn(4), scene), make(template, again)
    assert torch.equal(both.fractions[1], alone.fractions[0])
    assert torch.equal(both.regions["mca_left"][1], alone.regions["mca_left"][0])


def test_brain_volume_follows_the_cube_of_its_size(template):
    large, small = make(template, straight(size=0.9)), make(template, straight(size=0.81))
    # 1883 ml of the template's mask and 14 ml of closed cisterns.
    assert millilitres(large.brain) == pytest.approx(1897 * 0.9**3, rel=0.015)
    assert millilitres(small.brain) / millilitres(large.brain) == pytest.approx(0.9**3, rel=0.005)


def test_the_brain_lies_in_the_middle_of_the_grid_and_inside_it(template):
    anatomy = make(template, *(replace(drawn(s), shift_mm=(0.0, 0.0, 0.0)) for s in range(4)))
    for brain in anatomy.brain > 0.5:
        for axis in range(3):
            line = torch.nonzero(brain.sum([a for a in range(3) if a != axis]))[:, 0]
            first, last = int(line[0]), int(line[-1])
            assert first >= 1
            assert last <= SHAPE[axis] - 2
            assert abs(first + last - (SHAPE[axis] - 1)) <= 5


def test_ageing_covers_young_and_shrunken_brains(template):
    young, old = make(template, aged(drawn(5), 0.0)), make(template, aged(drawn(5), 1.0))
    assert fluid_share(young) < 0.12
    assert fluid_share(old) > 0.33
    assert millilitres(old.regions["ventricles"]) > 2.5 * millilitres(young.regions["ventricles"])
    # The cortex goes on beside widened sulci: white matter hardly ever touches their fluid.
    _, white, fluid = old.fractions[0]
    cortex = (old.regions["cortex"][0] > 0.95) & (old.surface_mm[0] < 15) & (old.regions["ventricles"][0] < 0.01)
    touching = cortex & (fluid > 0.3) & (white > 0.3)
    assert float(touching.sum()) < 0.01 * float((cortex & (fluid > 0.3)).sum())


def test_one_side_can_be_more_shrunken_than_the_other(template):
    fluid = make(template, straight(lopsided=0.4)).fractions[0, 2]
    assert float(fluid[40:].sum() / fluid[:40].sum()) > 1.15


@pytest.mark.parametrize("seed", range(4))
def test_deformation_never_folds(template, seed):
    ranges = AnatomyRanges()
    scene = replace(
        drawn(seed),
        bend_mm=(ranges.head_bend_mm[1], ranges.lobe_bend_mm[1], ranges.gyrus_bend_mm[1]),
        bend_wave_mm=(ranges.head_wave_mm[0], ranges.lobe_wave_mm[0], ranges.gyrus_wave_mm[0]),
        ventricle_push_mm=ranges.ventricle_push_mm[1],
        lopsided=0.44,
    )
    mm = make(template, scene).mni_mm[0]
    slopes = torch.stack([torch.diff(mm, dim=1 + a)[:, :79, :95, :79] / 2 for a in range(3)], 1)
    determinant = torch.linalg.det(slopes.permute(2, 3, 4, 0, 1))
    assert float(determinant.min()) > 0
    assert float(determinant.max() / determinant.min()) > 3


def test_a_steady_stretch_flows_to_its_exponential():
    axes = axes_mm(lattice_nodes(8.0), (8.0,) * 3, CPU)
    velocity = torch.zeros(3, *(len(a) for a in axes))
    velocity[0] = 0.2 * axes[0].view(-1, 1, 1)
    moved = flow(velocity, 8.0)[0]
    # From 40 mm to 40 exp(0.2) = 48.86 mm, still inside the lattice.
    at = int(torch.nonzero(axes[0] == 40)[0])
    assert float(moved[at, 10, 10]) == pytest.approx(8.86, abs=0.06)


def test_splines_keep_a_linear_function():
    nodes = axes_mm(lattice_nodes(4.0), (4.0,) * 3, CPU)
    lattice = (nodes[0].view(-1, 1, 1) + 2 * nodes[1].view(1, -1, 1) - nodes[2].view(1, 1, -1))[None, None]
    read = spline(lattice, 4.0, [torch.tensor([3.3]), torch.tensor([-7.7]), torch.tensor([10.1])])
    assert float(read) == pytest.approx(3.3 - 15.4 - 10.1, abs=1e-3)


def test_the_midplane_turns_with_the_head(template):
    straight_up = make(template, straight()).midplane[0]
    np.testing.assert_allclose(straight_up, [1, 0, 0, 0], atol=0.02)
    shifted = make(template, straight(shift_mm=(3.0, 0.0, 0.0))).midplane[0]
    np.testing.assert_allclose(shifted, [1, 0, 0, 3], atol=0.05)
    turned = make(template, straight(rotation_deg=(0.0, 0.0, 10.0))).midplane[0]
    np.testing.assert_allclose(turned[:3], [np.cos(np.deg2rad(10)), np.sin(np.deg2rad(10)), 0], atol=0.01)


def test_mirrored_anatomy_is_the_mirror_image(template):
    one = make(template, straight(petalia_mm=4.0)).fractions[0]
    other = make(template, straight(petalia_mm=-4.0)).fractions[0]
    assert float((one - one.flip(1)).abs().mean()) > 10 * float((one - other.flip(1)).abs().mean())


def test_the_right_frontal_and_left_occipital_lobe_protrude(template):
    brain = make(template, straight(petalia_mm=4.0)).brain[0]
    right, left = brain[46:].sum((0, 2)), brain[:34].sum((0, 2))
    y = axes_mm(SHAPE, SPACING, CPU)[1]
    # Two of the 4 mm forwards on the right and two backwards on the left at the sides, less towards the middle.
    apart = float((right * y).sum() / right.sum() - (left * y).sum() / left.sum())
    assert 2.0 < apart < 4.0


def test_sides_are_the_patients(template):
    anatomy = make(template, drawn(6))
    x = axes_mm(SHAPE, SPACING, CPU)[0].view(-1, 1, 1)
    for name, sign in (("mca_left", -1), ("pca_left", -1), ("aca_right", 1)):
        part = anatomy.regions[name][0]
        assert sign * float((part * x).sum() / part.sum()) > 3, name
    assert float((anatomy.mni_mm[0, 0] * x).mean()) > 0
    with pytest.raises(KeyError, match="known are"):
        anatomy.regions["mca"]


def test_a_finer_grid_shows_the_same_brain(template):
    fine = make(template, drawn(7), shape=(112, 144, 112), spacing=(1.5, 1.5, 1.5))
    coarse = make(template, drawn(7))
    assert millilitres(fine.brain, (1.5,) * 3) == pytest.approx(millilitres(coarse.brain), rel=0.005)
    assert fluid_share(fine) == pytest.approx(fluid_share(coarse), rel=0.05)
    assert fine.midplane[0] == pytest.approx(coarse.midplane[0], abs=0.05)


def test_most_brains_have_an_adults_volume():
    scale = [s.size**3 * np.prod(s.axes) for s in map(drawn, range(300))]
    volumes = 1897 * np.array(scale)
    assert np.mean((volumes > 1150) & (volumes < 1450)) > 0.6
    assert volumes.min() > 850
    assert volumes.max() < 1950


def test_a_head_surrounds_the_brain_and_leaves_it_alone(template):
    shape = (104, 124, 112)
    anatomy = make(template, straight(), shape=shape)
    scene = replace(draw_head(np.random.default_rng([0, 7]), HeadRanges()), uneven=0.0, skull_mm=6.0, scalp_mm=6.0)
    head = make_head([scene], anatomy)
    assert set(head.tissues) == set(HEAD_TISSUES)
    total = sum(head.tissues.values()) + anatomy.brain
    assert float(total.max()) < 1.0001
    assert float(min(t.min() for t in head.tissues.values())) >= 0
    inside = anatomy.brain[0] > 0.999
    assert float(sum(t[0][inside].sum() for t in head.tissues.values())) < 1e-3 * float(inside.sum())
    # Straight up from the vertex: 6 mm of bone and marrow, 6 mm of fat and skin, then air.
    column = torch.stack([t[0, 60, 60] for t in head.tissues.values()])
    names = list(head.tissues)
    bone = column[names.index("bone")] + column[names.index("marrow")]
    above = torch.arange(shape[2]) > 80
    assert float((bone * above).sum()) * 2 == pytest.approx(6.0, abs=1.5)
    soft = column[names.index("fat")] + column[names.index("muscle")]
    assert float((soft * above).sum()) * 2 == pytest.approx(6.0, abs=1.5)
    # Two eyeballs of about 4/3 pi r^3, in front and apart.
    eyes = head.tissues["eye"][0]
    assert millilitres(eyes) == pytest.approx(2 * 4.19e-3 * (scene.eye_mm * 0.9) ** 3, rel=0.25)
    assert float(eyes[:52].sum() / eyes.sum()) == pytest.approx(0.5, abs=0.05)


def test_eyes_are_bright_without_and_dark_with_diffusion_weighting():
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)

    def only(name):
        return Head({n: one if n == name else none for n in HEAD_TISSUES}, fat_suppression=one / 10)

    plain, weighted = head_signals(only("eye"), [80.0], [6000.0], [1.0])
    # Density 1, T1 4 s, T2 0.8 s: (1 - exp(-1.5)) exp(-0.1) = 0.703, times exp(-2.7) = 0.047.
    assert float(plain) == pytest.approx(0.703, abs=0.001)
    assert float(weighted) == pytest.approx(0.0472, abs=0.0002)
    # Fat: a tenth of 0.9 exp(-80 / 60) = 0.237 is left after suppression.
    assert float(head_signals(only("fat"), [80.0], [6000.0], [1.0])[0]) == pytest.approx(0.0237, abs=0.0001)
    assert float(head_t1(only("fat"))) == pytest.approx(1.3)


def test_real_brains_lie_within_the_drawn_ones(template):
    folder = os.environ.get("STROKESEG_CASES")
    if not folder:
        pytest.skip("The folder of real scans is not named in STROKESEG_CASES.")
    rows = []
    for seed in range(24):
        anatomy = make(template, drawn(seed))
        brain = anatomy.brain[0] > 0.5
        box = [int((brain.sum([b for b in range(3) if b != a]) > 0).sum()) for a in range(3)]
        rows.append([millilitres(anatomy.brain), 100 * fluid_share(anatomy), *box])
    low, high = np.min(rows, 0), np.max(rows, 0)
    for name in ("isles22_0001", "isles22_0009"):
        images = [nib.as_closest_canonical(nib.load(Path(folder) / name / f"{r}.nii.gz")) for r in ("dwi", "adc")]
        dwi, adc = (i.get_fdata() for i in images)
        mask = dwi != 0
        box = [int(mask.any(tuple(b for b in range(3) if b != a)).sum()) for a in range(3)]
        # Fluid at 2 mm: diffusion more than half way from tissue (0.8) to water (3).
        row = np.array([mask.sum() * 0.008, 100 * np.mean(adc[mask] > 1.6), *box])
        print(name, row.round(1), "drawn from", low.round(1), "to", high.round(1))
        assert (row >= low).all()
        assert (row <= high).all()
