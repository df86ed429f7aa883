"""Lesions and distractors of synthetic patients, in an ellipsoid brain whose every tissue is known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import nibabel as nib
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy import ndimage

from strokeseg.errors import InputError
from strokeseg_training.generator.distractors import DistractorRanges, draw_distractors, make_distractors
from strokeseg_training.generator.lesion_depth import depth_of_score, extent
from strokeseg_training.generator.lesion_head import Head
from strokeseg_training.generator.lesion_library import LesionLibrary
from strokeseg_training.generator.lesion_scene import AcuteLook, ChronicLook, Embolus, Pull, Shower
from strokeseg_training.generator.lesion_territories import TERRITORIES, line_distance, territory_line
from strokeseg_training.generator.lesions import LesionRanges, LesionScene, draw_lesions, make_lesions, widening

SHAPE, SPACING = (48, 56, 48), (3.0, 3.0, 3.0)
VOXEL_ML = 0.027


@dataclass(frozen=True, eq=False)
class Brain:
    """What rooms ask an anatomy for: a white ellipsoid with 6 mm of cortex, two ventricles and a cerebellum."""

    fractions: torch.Tensor
    brain: torch.Tensor
    regions: dict[str, torch.Tensor]
    mni_mm: torch.Tensor
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self):
        return tuple(self.brain.shape[1:])

    @property
    def device(self):
        return self.brain.device


def brains(count=1):
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    mni = place + torch.tensor([0.0, -18.0, 8.0]).view(3, 1, 1, 1)

    def ball(middle, radii):
        return sum(((mni[k] - middle[k]) / radii[k]) ** 2 for k in range(3)) < 1

    whole = ball((0, -18, 8), (66, 78, 66))
    ventricles = ball((14, -18, 16), (7, 26, 9)) | ball((-14, -18, 16), (7, 26, 9))
    inner = ball((0, -18, 8), (60, 72, 60))
    deep = ball((14, -18, 4), (10, 14, 8)) | ball((-14, -18, 4), (10, 14, 8))
    cerebellum = ball((0, -62, -38), (48, 26, 20)) & whole
    stem = ball((0, -26, -38), (12, 12, 26)) & whole & ~cerebellum
    csf = ventricles & whole
    white = inner & ~csf & ~deep
    grey = whole & ~csf & ~white
    fractions = torch.stack([grey, white, csf]).float()
    regions = {"cerebellum": cerebellum, "brain_stem": stem, "deep_grey": deep, "ventricles": csf}
    several = (count, *([1] * 3))
    return Brain(
        fractions.repeat(count, 1, 1, 1, 1),
        whole.float().repeat(several),
        {name: value.float().repeat(several) for name, value in regions.items()},
        mni.repeat(count, 1, 1, 1, 1),
        SPACING,
    )


def scenes(count, task="dwi-adc", library=None, **changes):
    ranges = LesionRanges(**changes)
    return [draw_lesions(np.random.default_rng([seed, 2]), ranges, task, library) for seed in range(count)]


def a_look(**changes):
    look = AcuteLook(0.5, 1.3, 2.0, 3.0, 0.4, 10.0, 0.0, 0.5, 0.0, 0.0, cells=False, seed=3)
    return replace(look, **changes)


def a_part(**changes):
    """A territory infarct of the drawn kind, with chosen fields."""
    drawn = next(
        s.parts[0] for s in scenes(50, empty_share=0.0, single_share=1.0, kind_shares=(1, 0, 0, 0, 0)) if s.parts
    )
    defaults = {
        "territory": "mca_trunk",
        "kind": "territory",
        "side": 1,
        "volume_ml": 20.0,
        "span": (0.0, 1.0),
        "stretch": (0.0, 0.0, 0.0),
        "ragged": 0.3,
        "look": a_look(),
    }
    return replace(drawn, **(defaults | changes))


def only(*parts, showers=()):
    return LesionScene("training", tuple(parts), tuple(showers))


def covered_ml(lesions, anatomy):
    return float((lesions.infarct * anatomy.fractions[:, :2].sum(1)).sum()) * VOXEL_ML


@pytest.fixture(scope="module")
def brain():
    return brains()


@pytest.fixture
def masks(tmp_path, monkeypatch):
    """A folder with one set of two masks: cubes of 8 and 1 ml, 2 mm voxels, x to the left as real masks have it."""
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path))
    folder = tmp_path / "masks" / "soop"
    folder.mkdir(parents=True)
    affine = np.array([[-2.0, 0, 0, 78], [0, 2, 0, -112], [0, 0, 2, -50], [0, 0, 0, 1]])
    for name, size in (("a", 10), ("b", 5)):
        voxels = np.zeros((78, 94, 68), np.uint8)
        voxels[20 : 20 + size, 40 : 40 + size, 30 : 30 + size] = 1
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    return tmp_path / "masks"


def test_library_gives_back_mask_volume_and_place(masks):
    library = LesionLibrary.open(masks)
    assert library.volumes_ml("soop") == pytest.approx([8.0, 1.0])
    mask = library.mask("soop", 0)
    assert mask.voxels.sum() == 1000
    # Voxels 20-29 of x = 78 - 2 i: the middle lies at 78 - 2 * 24.5; y = -112 + 2 * 44.5; z = -50 + 2 * 34.5.
    assert mask.centre_mm == pytest.approx((29.0, -23.0, 19.0))


def test_library_is_the_same_from_folder_cache_and_file(masks, tmp_path):
    first = LesionLibrary.open(masks)
    first.save(tmp_path / "all.npz")
    for again in (LesionLibrary.open(masks), LesionLibrary.open(tmp_path / "all.npz")):
        np.testing.assert_array_equal(again.mask("soop", 1).voxels, first.mask("soop", 1).voxels)
        assert again.volumes_ml("soop").tolist() == first.volumes_ml("soop").tolist()
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1


def test_library_notices_a_changed_folder(masks):
    assert len(LesionLibrary.open(masks).volumes_ml("soop")) == 2
    (masks / "soop" / "b.nii.gz").unlink()
    assert len(LesionLibrary.open(masks).volumes_ml("soop")) == 1


def test_small_bias_favours_small_masks(masks):
    library = LesionLibrary.open(masks)

    def share_of_small(bias):
        rng = np.random.default_rng(0)
        return np.mean([library.draw(rng, "soop", bias) for _ in range(800)])

    # Weights (8.1, 1.1)^-1: the small one in 8.1 / 9.2 of the draws.
    assert share_of_small(0.0) == pytest.approx(0.5, abs=0.06)
    assert share_of_small(1.0) == pytest.approx(8.1 / 9.2, abs=0.05)
    assert library.draw_near(np.random.default_rng(0), "soop", 1.0) == 1


@pytest.mark.parametrize("path", ["nothing", "."])
def test_folder_without_masks_is_told(tmp_path, path):
    with pytest.raises(InputError, match="no lesion masks"):
        LesionLibrary.open(tmp_path / path)


def test_damaged_prepared_file_is_told(tmp_path):
    (tmp_path / "all.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        LesionLibrary.open(tmp_path / "all.npz")


def test_library_lesion_lies_where_the_mask_lies(masks, brain):
    library = LesionLibrary.open(masks)
    still = {
        "kind": "library",
        "territory": "",
        "library_set": "soop",
        "library_index": 0,
        "volume_ml": 0.0,
        "ragged": 0.0,
        "grey_pull": 0.0,
        "turn_deg": (0.0,) * 3,
        "shift_mm": (0.0,) * 3,
        "warp_mm": 0.0,
        "keep": 1.0,
    }
    for mirror, x in ((False, 29.0), (True, -29.0)):
        made = make_lesions([only(a_part(**still, mirror=mirror))], brain, library)
        weight = made.infarct[0] / made.infarct.sum()
        middle = [float((weight * brain.mni_mm[0, k]).sum()) for k in range(3)]
        assert middle == pytest.approx([x, -23.0, 19.0], abs=1.0)
        assert covered_ml(made, brain) == pytest.approx(8.0, rel=0.15)
    half = make_lesions([only(a_part(**(still | {"keep": 0.5}), mirror=False))], brain, library)
    assert 3.6 < covered_ml(half, brain) < 5.5


def test_scene_with_a_mask_needs_the_library(masks, brain):
    part = a_part(kind="library", library_set="soop", library_index=7)
    with pytest.raises(InputError, match="no folder of masks"):
        make_lesions([only(part)], brain)
    with pytest.raises(InputError, match="number 7"):
        make_lesions([only(part)], brain, LesionLibrary.open(masks))
    with pytest.raises(InputError, match="'other'"):
        make_lesions([only(replace(part, library_set="other"))], brain, LesionLibrary.open(masks))


@pytest.mark.parametrize("kind", ["territory", "scatter", "wedge", "cortex", "metaballs", "walk", "branches", "cells"])
def test_procedural_infarct_has_its_volume_on_its_side(brain, kind):
    made = make_lesions([only(a_part(kind=kind, side=-1, territory="mca_superior", volume_ml=8.0))], brain)
    # A soft border adds to thin shapes; cells are whole or not at all.
    assert 4.5 < covered_ml(made, brain) < 16.0
    inside = made.infarct[0] > 0.5
    assert (brain.mni_mm[0, 0][inside] < 6.0).float().mean() > 0.9
    assert not (inside & (brain.brain[0] < 0.5)).any()


def test_lacune_lies_in_deep_tissue_and_stem_infarct_in_the_stem(brain):
    lacune = make_lesions(
        [only(a_part(kind="lacune", territory="pca_thalamus", volume_ml=0.5, grey_pull=0.0, ragged=0.1))], brain
    )
    far = brain.mni_mm[0, :, lacune.infarct[0] > 0.5] - torch.tensor([[10.0], [-18.0], [6.0]])
    assert far.numel() > 0
    assert float(far.norm(dim=0).max()) < 30.0
    stem = make_lesions([only(a_part(kind="lacune", territory="pons", volume_ml=0.5, ragged=0.1))], brain)
    hit = stem.infarct[0] > 0.5
    assert hit.any()
    assert brain.regions["brain_stem"][0][hit].min() == 1.0


def test_no_infarct_in_fluid_or_outside_and_factors_are_one_where_healthy(brain):
    made = make_lesions([only(a_part(volume_ml=60.0, look=a_look(texture_sd=0.12, patch_share=0.3)))], brain)
    tissue = brain.fractions[0, :2].sum(0)
    assert made.infarct[0][tissue == 0].max() == 0.0
    healthy = made.infarct[0] < 1e-4
    assert (made.d_factor[0][healthy] - 1).abs().max() < 1e-3
    assert (made.t2_factor[0][healthy] - 1).abs().max() < 1e-3


def test_core_has_the_drawn_ratios_and_the_border_is_weak_but_labelled(brain):
    head = Head.of(brain, 0)
    made = make_lesions([only(a_part(volume_ml=90.0, ragged=0.0, look=a_look(border_mm=9.0)))], brain)
    inside = made.infarct[0] > 0.9
    depth = torch.from_numpy(ndimage.distance_transform_edt(inside.numpy() | (head.tissue.numpy() == 0), sampling=3.0))
    core, rim = inside & (depth > 15), inside & (depth < 4)
    assert made.d_factor[0][core].mean() == pytest.approx(0.5, abs=0.03)
    assert made.t2_factor[0][core].mean() == pytest.approx(1.3, abs=0.03)
    assert 0.6 < made.d_factor[0][rim].mean() < 0.9


def test_embolus_has_its_volume_and_lies_in_tissue(brain):
    round_one = Embolus((0.9, 0.5, 0.5), 2.0, (0.0,) * 3, (0.0,) * 3, 0.0, 2.0, 1.0, 0.6, 1.2)
    shower = Shower("anywhere", "aca", 0, 20.0, 0.0, (round_one,))
    made = make_lesions([only(showers=[shower])], brain)
    assert covered_ml(made, brain) == pytest.approx(2.0, rel=0.2)
    assert made.d_factor.min() == pytest.approx(0.6, abs=0.02)
    assert ndimage.label(made.infarct[0].numpy() > 0.5)[1] == 1


def test_emboli_near_the_infarct_keep_near(brain):
    spots = tuple(
        Embolus((a, b, 0.5), 0.3, (0.0,) * 3, (0.0,) * 3, 0.0, 2.0, 1.0, 0.6, 1.2)
        for a in (0.2, 0.8)
        for b in (0.3, 0.7)
    )
    part = a_part(kind="cortex", territory="mca_inferior", volume_ml=2.0)
    near = make_lesions([only(part, showers=[Shower("lesion", "aca", 0, 12.0, 0.3, spots)])], brain)
    hit = brain.mni_mm[0, :, near.infarct[0] > 0.5]
    assert (hit - hit.mean(1, keepdim=True)).norm(dim=0).max() < 50.0
    everywhere = make_lesions([only(part, showers=[Shower("anywhere", "aca", 0, 12.0, 0.3, spots)])], brain)
    hit = brain.mni_mm[0, :, everywhere.infarct[0] > 0.5]
    assert (hit - hit.mean(1, keepdim=True)).norm(dim=0).max() > 50.0


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
@pytest.mark.parametrize("style", ["training", "exam"])
def test_scene_survives_json_and_replays_bit_for_bit(brain, task, style):
    drawn = scenes(6, task, style=style, empty_share=0.0)
    back = [TypeAdapter(LesionScene).validate_json(json.dumps(asdict(scene))) for scene in drawn]
    assert back == drawn
    once, again = make_lesions(drawn, brains(6)), make_lesions(back, brains(6))
    for name in ("infarct", "d_factor", "t2_factor", "t1_factor", "cavity"):
        assert torch.equal(getattr(once, name), getattr(again, name))
    alone = make_lesions(drawn[3:4], brain)
    assert torch.equal(alone.infarct[0], once.infarct[3])


def test_drawing_is_decided_by_the_seed_and_covers_what_is_promised():
    assert scenes(5) == scenes(5)
    many = scenes(600)
    empty = [s for s in many if not s.parts and not s.showers]
    assert len(empty) / 600 == pytest.approx(0.12, abs=0.04)
    parts = [part for scene in many for part in scene.parts]
    stages = [part.stage for part in parts]
    assert {part.kind for part in parts} == {"territory", "scatter", "wedge", "cortex", "lacune"}
    assert {TERRITORIES[part.territory].vessel for part in parts} == {t.vessel for t in TERRITORIES.values()}
    assert stages.count("late") / len(stages) == pytest.approx(0.09, abs=0.04)
    assert stages.count("faint") / len(stages) == pytest.approx(0.15, abs=0.05)
    assert any(len({p.stage for p in scene.parts}) > 1 for scene in many)
    both = [scene for scene in many if {1, -1} <= {part.side for part in scene.parts}]
    assert 0.08 < len(both) / 600 < 0.3
    emboli = [len(shower.emboli) for scene in many for shower in scene.showers]
    assert min(emboli) >= 1
    assert max(emboli) == 32
    # Few in most patients, dozens in some.
    assert np.median(emboli) < 12


def test_exam_never_uses_the_trainings_shapes(masks):
    library = LesionLibrary.open(masks)
    exam = scenes(80, library=library, style="exam", library_share=1.0)
    kinds = {part.kind for scene in exam for part in scene.parts}
    assert kinds == {"metaballs", "walk", "branches", "cells"}
    training = scenes(80, library=library, library_share=1.0)
    assert {part.kind for scene in training for part in scene.parts} == {"library"}


def test_depth_holds_the_volume_and_counts_millimetres(brain):
    head = Head.of(brain, 0)
    x, y, z = head.offsets_mm((23.5, 27.5, 34.0))
    score = -((x**2 + y**2 + z**2).sqrt()) * 0.2  # any slope: 0.2 per mm
    depth = depth_of_score(score, head, 10.0)
    inside = (depth > 0) & (head.tissue > 0)
    assert float(inside.sum()) * VOXEL_ML == pytest.approx(10.0, rel=0.05)
    radius = float((-score[inside] / 0.2).max())
    assert float(depth[23, 27, 36]) == pytest.approx(radius - 6.0, abs=1.6)
    # A logistic border 4.394 mm wide has the scale 1 mm: at the border one half.
    assert extent(torch.zeros(SHAPE), 4.394, head).max() == 0.5
    assert extent(torch.full(SHAPE, 2.197), 4.394, head).max() == pytest.approx(0.9, abs=1e-3)


def test_quantiles_find_the_only_place_there_is(brain):
    head = Head.of(brain, 0)
    weight = np.zeros(head.coarse.tissue.shape, np.float32)
    weight[10, 20, 5] = 2.0
    n = head.coarse.stride
    assert head.voxel_at(weight, (0.5, 0.5, 0.5)) == pytest.approx((10.0 * n, 20.0 * n, 5.0 * n))
    assert head.voxel_at(weight * 0, (0.5, 0.5, 0.5)) is None


def test_territory_line_is_cut_and_mirrored():
    whole = territory_line("pons", -1)
    assert whole.tolist() == [[-3.0, -16.0, -34.0], [-4.0, -28.0, -32.0]]
    half = territory_line("pons", 1, (0.0, 0.5))
    assert half[-1].tolist() == [3.5, -22.0, -33.0]
    point = torch.tensor([3.0, -16.0, -24.0]).view(3, 1, 1, 1)
    assert float(line_distance(point, territory_line("pons", 1, (0.0, 1e-6)))) == pytest.approx(10.0, abs=1e-3)


def test_chronic_scar_has_fluid_inside_and_a_dark_rim(brain):
    look = ChronicLook(1.5, 1.0, 0.6, 3.0, 0.6, 4.0, 5)
    made = make_lesions([only(a_part(volume_ml=60.0, ragged=0.1, look=look))], brain)
    label = made.infarct[0] > 0.5
    cavity = made.cavity[0] > 0.5
    assert cavity.any()
    assert not (cavity & ~label).any()
    rim = label & ~cavity
    assert 0.3 < float(cavity.sum() / label.sum()) < 0.75
    assert float(made.t1_factor[0][rim].mean()) == pytest.approx(0.6, abs=0.1)
    assert (made.d_factor == 1).all()


def test_chronic_volumes_follow_the_stated_distribution():
    drawn = scenes(800, "t1", empty_share=0.0)
    volumes = np.log([sum(part.volume_ml for part in scene.parts) for scene in drawn])
    # ln N(1.73, 2.10) cut at 0.02 and 400 ml.
    assert volumes.mean() == pytest.approx(1.73, abs=0.25)
    assert volumes.std() == pytest.approx(2.0, abs=0.25)
    counts = [len(scene.parts) for scene in drawn]
    assert np.median(counts) <= 2
    assert max(counts) > 5


def test_tissue_is_pulled_towards_the_scar_and_never_folds():
    scene = replace(only(), pulls=(Pull((0.0, 0.0, 0.0), 20.0, 8.0),))
    line = torch.arange(0.0, 100.0, 0.5)
    points = torch.stack([line, torch.zeros_like(line), torch.zeros_like(line)])
    displacement = widening(scene)
    assert displacement is not None
    moved = displacement(points)
    # Largest at 20 mm and 8 mm long, pointing away from the scar: a voxel shows what lies further out.
    assert float(moved[0, 40]) == pytest.approx(8.0)
    assert float(moved.max()) == pytest.approx(8.0)
    assert float(moved[0, -1]) < 0.01
    read = (points + moved)[0]
    assert (read.diff() > 0).all()
    assert widening(only()) is None


@pytest.mark.parametrize("task", ["dwi-adc", "t1"])
def test_distractors_have_no_label_and_spare_the_lesion(task):
    everything = DistractorRanges(
        cavity_share=1.0, shine_share=1.0, bleeding_share=1.0, perivascular_share=1.0, white_matter_share=1.0
    )
    drawn = [draw_distractors(np.random.default_rng([s, 3]), everything, task) for s in range(3)]
    anatomy = brains(3)
    lesions = make_lesions([only(a_part(volume_ml=60.0))] * 3, anatomy)
    made = make_distractors(drawn, anatomy, lesions)
    assert made.infarct.max() == 0
    label = lesions.infarct >= 0.25
    assert (made.d_factor[label] == 1).all()
    assert (made.t2_factor[label] == 1).all()
    assert (made.t1_factor[label] == 1).all()
    assert made.cavity[label].max() == 0
    assert (made.d_factor != 1).any()
    assert (made.t1_factor < 0.99).any()
    kinds = {focus.kind for scene in drawn for focus in scene.foci}
    assert kinds == ({"perivascular"} if task == "t1" else {"cavity", "shine_through", "bleeding", "perivascular"})


def test_bleeding_shortens_t2_and_white_matter_change_hugs_the_ventricles(brain):
    healthy = make_lesions([only()], brain)
    shares = {"cavity_share": 0.0, "shine_share": 0.0, "perivascular_share": 0.0}
    bleeding = DistractorRanges(**shares, bleeding_share=1.0, white_matter_share=0.0, bleeding_ln=(1.0, 0.1))
    made = make_distractors([draw_distractors(np.random.default_rng(0), bleeding, "dwi-adc")], brain, healthy)
    assert made.t2_factor.min() < 0.7
    caps = DistractorRanges(**shares, bleeding_share=0.0, white_matter_share=1.0, caps_mm=(5.0, 6.0), spots=(0.0, 0.0))
    made = make_distractors([draw_distractors(np.random.default_rng(0), caps, "dwi-adc")], brain, healthy)
    changed = made.t2_factor[0] - 1
    distance = torch.from_numpy(
        ndimage.distance_transform_edt(brain.regions["ventricles"][0].numpy() < 0.5, sampling=3.0)
    )
    white = brain.fractions[0, 1] > 0.5
    assert changed[white & (distance < 4)].mean() > 5 * changed[white & (distance > 14)].mean()
    assert changed.max() > 0.1
