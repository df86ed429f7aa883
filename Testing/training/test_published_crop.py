"""MSCS-Net's crop at fixed indices of the scan, which is an option, and the windows that the engine shows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="prepared data sets need torch, which is not installed")

from recording_runtime import Recorder  # noqa: E402

from strokeseg.case import Case  # noqa: E402
from strokeseg.events import Monitor  # noqa: E402
from strokeseg.predict.strategies import Tiling, windows  # noqa: E402
from strokeseg.prepare import prepare  # noqa: E402
from strokeseg.volume import Grid, Volume  # noqa: E402
from strokeseg_training.prepare.arrays import make_arrays  # noqa: E402
from strokeseg_training.prepare.patches import PatchItems  # noqa: E402
from strokeseg_training.prepare.prepared_set import PreparedVolume  # noqa: E402
from strokeseg_training.prepare.reading import PatientVolumes  # noqa: E402
from strokeseg_training.prepare.recipe import load_data_recipe  # noqa: E402

# The options of the recipe's own comment.
PUBLISHED = [
    "preparation.channels=[adc_slice_minmax,dwi_slice_minmax]", "preparation.spacing_mm=[0,0,0]", "datasets.frame=scan",
    "datasets.patches={size: [192, 192, 16], place: fixed, start: [29, 29, 2]}",
]  # fmt: skip
SHAPE = (250, 250, 20)
# Not in the middle of the scan, and with a slice more than the crop has.
BOX = (slice(50, 190), slice(46, 216), slice(1, 18))
CROP = (slice(29, 221), slice(29, 221), slice(2, 18))


@pytest.fixture(scope="module")
def patient():
    """Numbers in every voxel of a scan that is stored from left to right turned; labels everywhere, to mark voxels."""
    rng = np.random.default_rng(3)
    affine = np.diag([-0.92, 0.92, 6.0, 1.0])
    affine[:3, 3] = (110.0, -120.0, -40.0)
    inside = np.zeros(SHAPE, bool)
    ends = [np.linspace(-1, 1, s.stop - s.start) for s in BOX]
    x, y, _ = np.meshgrid(*ends, indexing="ij")
    inside[BOX] = x**2 + y**2 <= 1.001
    images = {"dwi": rng.uniform(100, 900, SHAPE), "adc": rng.uniform(0.4, 1.6, SHAPE)}
    labels = rng.integers(0, 2, SHAPE).astype(np.uint8)

    def stored(array):
        return np.ascontiguousarray(array[::-1])

    volumes = {r: Volume(stored(a).astype(np.float32), affine) for r, a in images.items()}
    mask = Volume(stored(inside).astype(np.float32), affine)
    case = Case(volumes=volumes, brain_mask=mask)
    given = PatientVolumes(case, stored(labels), Grid(SHAPE, affine), ())
    return SimpleNamespace(given=given, inside=inside, images=images, labels=labels)


def by_slice(image, inside):
    """From 0 to 1 in the brain of each slice."""
    result = np.zeros(SHAPE, np.float64)
    for plane in np.flatnonzero(inside.any(axis=(0, 1))):
        brain = image[..., plane][inside[..., plane]].astype(np.float32).astype(np.float64)
        result[..., plane][inside[..., plane]] = (brain - brain.min()) / (brain.max() - brain.min())
    return result


def test_the_published_option_cuts_these_voxels_of_the_scan(patient):
    recipe = load_data_recipe("mscs-net", PUBLISHED)
    arrays = make_arrays(patient.given, recipe.model_card, recipe.datasets, Monitor())
    assert arrays.grid.shape == SHAPE
    volume = PreparedVolume(arrays.channels, arrays.labels, arrays.brain)
    one = SimpleNamespace(side=lambda _: [0], patients=[SimpleNamespace(grid=arrays.grid)], volume=lambda _: volume)
    items = PatchItems(one, "train", recipe.datasets.patches, 1, overlap=0.25, multiple=1)
    assert len(items) == 1
    np.testing.assert_array_equal(items[0].labels, patient.labels[CROP])
    np.testing.assert_array_equal(items[0].brain, patient.inside[CROP])
    for channel, role in enumerate(("adc", "dwi")):
        wanted = by_slice(patient.images[role], patient.inside)[CROP]
        np.testing.assert_allclose(items[0].channels[channel], wanted, atol=1e-3)


def test_the_engine_shows_the_brain_in_the_middle_whatever_crop_was_learned_from(patient):
    recipe = load_data_recipe("mscs-net", PUBLISHED)
    card = recipe.model_card
    prepared = prepare(patient.given.case, card, Monitor())
    # The brain's own box: no voxel of the scan beside it, as much of it as there is.
    assert prepared.channels.shape == (2, 140, 170, 17)
    engine = Recorder()
    tiling = Tiling(card.window, card.overlap, card.preparation.multiple)
    windows(engine, prepared.channels, prepared.channels[0] != 0, tiling, lambda done, total: None)
    # Seventeen slices are two windows of sixteen; the crop has none of the first slice.
    assert len(engine.seen) == 2
    wanted = by_slice(patient.images["adc"], patient.inside)
    for number, shown in enumerate(engine.seen):
        first = 1 + number
        np.testing.assert_allclose(shown[0, 26:166, 11:181], wanted[50:190, 46:216, first : first + 16], atol=1e-5)
        assert np.count_nonzero(shown[0]) == np.count_nonzero(shown[0, 26:166, 11:181])
    # The crop has the same brain 5 voxels further left and 6 further to the front.
    cut = wanted[CROP]
    np.testing.assert_allclose(engine.seen[1][0, 26:166, 11:181], cut[21:161, 17:187], atol=1e-5)
