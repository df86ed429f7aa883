"""Where voxels, labels, boxes and the midplane go when a sample is moved."""

import math

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch", reason="augmentation needs torch, which is not installed")
pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")

from strokeseg.errors import InputError  # noqa: E402
from strokeseg_training.augment import Augmenter, Example, boxes_of, instances_of  # noqa: E402
from strokeseg_training.recipe_augment import Augmentation  # noqa: E402

VOLUME, SLICE = (15, 13, 11), (15, 13, 1)


def augmenter(seed=0, **settings):
    return Augmenter(Augmentation.model_validate(settings), seed)


def turned(degrees, about="z"):
    return augmenter(rotation={"degrees": [degrees, degrees], "about": [about]})


def scaled(factor):
    return augmenter(scale={"factor": [factor, factor]})


def bent(sigma=8, alpha=100, seed=0):
    return augmenter(seed, elastic={"sigma": [sigma, sigma], "alpha": [alpha, alpha]})


def marked(voxel, shape=VOLUME, **more):
    """One voxel of 1 in the image and of class 3 in the label."""
    image = torch.zeros(1, *shape)
    image[0][voxel] = 1.0
    return Example("one", ("dwi",), image, {"label": (image[0] * 3).to(torch.uint8)}, **more)


def noisy(shape=VOLUME, seed=5):
    drawn = torch.Generator().manual_seed(seed)
    images = torch.randn(2, *shape, generator=drawn)
    label = torch.randint(0, 3, shape, generator=drawn, dtype=torch.uint8)
    return Example("noise", ("dwi", "adc"), images, {"label": label, "share": torch.rand(shape, generator=drawn)})


def place_of(example):
    """Where the label is, and where the image is largest."""
    voxels = example.maps["label"].nonzero().tolist()
    assert len(voxels) == 1
    assert int(example.maps["label"].max()) == 3
    largest = np.unravel_index(int(example.images[0].argmax()), example.shape)
    assert tuple(voxels[0]) == largest
    return largest


# --- a marked voxel lands where it must


@pytest.mark.parametrize(("axis", "there"), [("x", (12, 4, 3)), ("y", (2, 8, 3)), ("z", (2, 4, 7))])
def test_a_flip_takes_a_voxel_to_the_other_end_of_its_axis(axis, there):
    moved = augmenter(flips={axis: 1})(marked((2, 4, 3)), 0)
    assert place_of(moved) == there
    assert float(moved.images.max()) == 1.0


@pytest.mark.parametrize(
    ("about", "there"),
    # From the middle (7, 6, 5) the voxel lies (2, 1, -3) away.
    [("z", (6, 8, 2)), ("x", (9, 9, 6)), ("y", (10, 7, 7))],
)
def test_a_quarter_turn_goes_from_the_first_of_the_other_axes_to_the_second(about, there):
    moved = turned(90, about)(marked((9, 7, 2)), 0)
    assert place_of(moved) == there
    assert float(moved.images.max()) == pytest.approx(1.0, abs=1e-5)


def test_a_slice_is_turned_in_its_plane():
    assert place_of(turned(90)(marked((9, 7, 0), SLICE), 0)) == (6, 8, 0)
    with pytest.raises(InputError, match="'one' cannot be turned about the axis 'x'") as caught:
        turned(90, "x")(marked((9, 7, 0), SLICE), 0)
    assert "'z'" in caught.value.next_step


def test_scale_moves_voxels_away_from_the_middle():
    image = torch.zeros(1, 15, 15, 15)
    image[0, 6:9, 6:9, 10:12] = 1.0
    moved = scaled(2.0)(Example("one", ("t1",), image, {"label": image[0].to(torch.uint8)}), 0)
    # From 3 to 4 voxels above the middle, with half a voxel on both sides: from 5 to 9, of which the grid has 2.
    assert boxes_of(moved.maps["label"]).tolist() == [[4, 4, 12, 11, 11, 15]]


def test_turns_are_in_millimetres():
    # 4 voxels of 1 mm along x are 2 voxels of 2 mm along y.
    moved = turned(90)(marked((11, 6, 5), spacing_mm=(1.0, 2.0, 3.0)), 0)
    # The voxel was 2 mm wide along y: along x it fills one voxel, and half of each of its neighbours.
    assert moved.images[0, 5:10, 8, 5].tolist() == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert boxes_of(moved.maps["label"]).tolist()[-1] == [6, 8, 5, 9, 9, 6]


def test_flips_turns_and_scale_are_one_transform():
    example = noisy((11, 11, 11))
    both = augmenter(flips={"x": 1}, rotation={"degrees": [20, 20]}, scale={"factor": [1.05, 1.05]})(example, 0)
    angle = math.radians(20)
    c, s = math.cos(angle), math.sin(angle)
    matrix = 1.05 * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([-1, 1, 1])
    back = np.linalg.inv(matrix)
    for mine, source in zip(both.images, example.images, strict=True):
        expected = ndimage.affine_transform(
            source.numpy(), back, np.full(3, 5.0) - back @ np.full(3, 5.0), order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(mine.numpy(), expected, atol=1e-4)


def test_beyond_the_grid_images_are_zero_or_the_edge_and_labels_background():
    example = Example("one", ("t1",), torch.ones(1, 9, 9, 9), {"label": torch.ones(9, 9, 9, dtype=torch.uint8)})
    settings = {"scale": {"factor": [0.5, 0.5]}}
    zero, edge = (augmenter(**settings, outside=o)(example, 0) for o in ("zero", "edge"))
    assert (float(zero.images.min()), float(edge.images.min())) == (0.0, 1.0)
    assert boxes_of(zero.maps["label"]).tolist() == boxes_of(edge.maps["label"]).tolist() == [[2, 2, 2, 7, 7, 7]]


# --- elastic


def displacement(shape, spacing=(1.0, 1.0, 1.0), **options):
    """Where each voxel looks, less where it is, in voxels; the border, which may look outside, left out."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    example = Example("ramp", ("x", "y", "z"), torch.stack(axes), {}, spacing_mm=spacing)
    inner = tuple(slice(n // 8, -(n // 8)) if n > 12 else slice(None) for n in shape)
    return torch.stack([m[inner] - a[inner] for m, a in zip(bent(**options)(example, 1).images, axes, strict=True)])


@pytest.mark.parametrize("shape", [(96, 96, 1), (48, 48, 48)], ids=["slice", "volume"])
def test_displacements_are_typically_alpha_over_six_sigma(shape):
    found = displacement(shape, sigma=4, alpha=40)
    expected = 40 / (math.sqrt(3) * 2 * math.sqrt(math.pi) * 4)
    for axis in range(3):
        if shape[axis] == 1:
            assert float(found[axis].abs().max()) == 0.0
        else:
            assert float(found[axis].std()) == pytest.approx(expected, rel=0.35)


def test_the_trios_strongest_field_is_smooth_and_folds_nothing():
    steps = [displacement((120, 100, 1), sigma=8, alpha=100, seed=seed)[0].diff(dim=0) for seed in range(20)]
    # A voxel that looks behind its neighbour would have a step below -1.
    assert min(float(s.min()) for s in steps) > -0.9
    assert float(torch.cat(steps).std()) < 0.25


def test_thick_slices_are_bent_by_millimetres():
    even = displacement((48, 48, 20), sigma=4, alpha=40)
    thick = displacement((48, 48, 20), spacing=(1.0, 1.0, 5.0), sigma=4, alpha=40)
    assert float(thick[2].std()) < 0.4 * float(even[2].std())
    assert float(thick[0].std()) == pytest.approx(float(even[0].std()), rel=0.5)


def test_image_and_label_are_bent_alike():
    label = torch.zeros(40, 40, 1, dtype=torch.uint8)
    label[10:20, 12:30] = 1
    example = Example("one", ("t1",), label[None].float(), {"label": label, "share": label.float()})
    moved = bent()(example, 3)
    assert not torch.equal(moved.maps["label"], label)
    assert torch.equal(moved.maps["label"], (moved.images[0] >= 0.5).to(torch.uint8))
    assert torch.equal(moved.maps["share"], moved.images[0])


# --- labels


def test_a_voxel_is_of_a_class_that_has_half_of_it():
    label = torch.zeros(9, 9, 1, dtype=torch.uint8)
    label[3:6, 3:6] = 7
    share = turned(30)(Example("one", ("t1",), label[None].float(), {"label": label}), 0)
    assert set(share.maps["label"].unique().tolist()) == {0, 7}
    assert torch.equal(share.maps["label"] == 7, share.images[0] >= 3.5)


@pytest.mark.parametrize("labels", ["linear", "nearest"])
def test_classes_stay_classes_and_types_stay_types(labels):
    example = noisy()
    example.maps["brain"] = torch.ones(VOLUME, dtype=torch.bool)
    example.maps["label"][0] = 255
    moved = augmenter(rotation={}, scale={}, elastic={}, labels=labels)(example, 4)
    assert set(moved.maps["label"].unique().tolist()) <= {0, 1, 2, 255}
    for name, values in example.maps.items():
        assert (moved.maps[name].dtype, moved.maps[name].shape) == (values.dtype, values.shape)


def test_between_two_classes_there_is_no_third_one():
    label = torch.zeros(20, 20, 1, dtype=torch.uint8)
    label[:, 10:] = 3
    moved = turned(33)(Example("one", ("t1",), label[None].float(), {"label": label}), 0)
    assert moved.maps["label"].unique().tolist() == [0, 3]


# --- boxes


def test_boxes_are_those_of_the_moved_labels():
    label = torch.zeros(VOLUME, dtype=torch.uint8)
    label[1:4, 2:5, 3:4] = 1
    label[9:12, 6:8, 7:9] = 1
    example = Example("two", ("t1",), label[None].float(), {"label": label, "instances": instances_of(label)})
    assert boxes_of(example.maps["instances"]).tolist() == [[1, 2, 3, 4, 5, 4], [9, 6, 7, 12, 8, 9]]
    moved = augmenter(flips={"x": 1})(example, 0)
    # The first one stays the first: its voxels take their number along.
    assert boxes_of(moved.maps["instances"]).tolist() == [[11, 2, 3, 14, 5, 4], [3, 6, 7, 6, 8, 9]]
    quarter = turned(180)(example, 0)
    assert boxes_of(quarter.maps["instances"]).tolist() == [[11, 8, 3, 14, 11, 4], [3, 5, 7, 6, 7, 9]]


def test_touching_by_an_edge_is_not_touching_by_a_face():
    label = torch.zeros(4, 4, 1, dtype=torch.uint8)
    label[0, 0] = label[1, 1] = label[1, 2] = 1
    assert boxes_of(instances_of(label)).tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 0, 2, 3, 1]]
    assert boxes_of(torch.zeros(4, 4, 1, dtype=torch.uint8)).shape == (0, 6)


# --- the midplane


@pytest.mark.parametrize(
    "settings",
    [{"flips": {"x": 1}}, {"flips": {"y": 1, "z": 1}}, {"rotation": {"degrees": [14, 14]}, "flips": {"x": 1}},
     {"scale": {"factor": [1.1, 1.1]}, "rotation": {"degrees": [-9, -9], "about": ["y", "z"]}}],
)  # fmt: skip
def test_the_midplane_goes_with_the_image(settings):
    # A slab of brightness on the plane: after the move it lies on the moved plane.
    normal = np.array([0.98, 0.15, -0.1])
    normal /= np.linalg.norm(normal)
    axes = np.meshgrid(*(np.arange(31) - 15.0,) * 3, indexing="ij")
    distance = sum(n * a for n, a in zip(normal, axes, strict=True)) - 3.0
    image = torch.from_numpy(np.exp(-0.5 * (distance / 1.5) ** 2)).float()[None]
    plane = torch.tensor([*normal, 3.0], dtype=torch.float32)
    moved = augmenter(**settings)(Example("one", ("t1",), image, {}, midplane=plane), 0)
    found = moved.midplane.numpy()
    assert np.linalg.norm(found[:3]) == pytest.approx(1.0, abs=1e-5)
    assert found[0] > 0
    bright = np.argwhere(moved.images[0].numpy() > 0.97)
    inner = bright[(np.abs(bright - 15) < 9).all(1)] - 15.0
    assert len(inner) > 20
    assert np.abs(inner @ found[:3] - found[3]).max() < 0.75
