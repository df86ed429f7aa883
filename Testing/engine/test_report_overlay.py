"""The overlay picture: the right side, the right slices, the right lengths, the same bytes."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import permutations, product

import numpy as np
import pytest
from matplotlib.image import imread

from strokeseg.report import draw_overlay
from strokeseg.report.layout import EDGE, NOTICE, SYNTHETIC
from strokeseg.report.overlay import plan_overlay
from strokeseg.report.plane import (
    choose_slices,
    crop_box,
    enlarge,
    foreground,
    robust_window,
    to_canonical,
    viewer_letters,
)
from strokeseg.report.scene import compose_scene

ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def rotation(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    a, b = [k for k in range(3) if k != axis]
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
    return turn


def centred_affine(shape, spacing, turn=None) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def phantom(lesion_at=(40.0, 45.0, 0.0), shape=(34, 30, 7), spacing=(5.0, 7.0, 12.0), turn=None):
    """Head, mask and affine: an ellipsoid (half axes 70, 90, 45 mm), a ball of 12 mm radius at `lesion_at`, RAS mm."""
    affine = centred_affine(shape, spacing, turn)
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    head = ((world / (70.0, 90.0, 45.0)) ** 2).sum(axis=-1) < 1
    mask = ((world - lesion_at) ** 2).sum(axis=-1) < 12.0**2
    assert mask.any()
    return head * 100.0, mask, affine


def turned(array, affine, order, signs):
    """The same voxels at the same places, stored along other axes; written without the code that is tested."""
    out = np.transpose(array, order)
    matrix = affine[:, [*order, 3]].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            out = np.flip(out, axis)
            matrix[:, 3] = matrix[:, 3] + matrix[:, axis] * (out.shape[axis] - 1)
            matrix[:, axis] = -matrix[:, axis]
    return np.ascontiguousarray(out), matrix


def pixels(png: bytes) -> np.ndarray:
    return np.rint(imread(io.BytesIO(png), format="png")[:, :, :3] * 255).astype(int)


def lesion_pixels(picture, tile, size):
    """Rows and columns of coloured pixels inside a tile, from the tile's corner."""
    part = picture[tile.y : tile.y + size[1], tile.x : tile.x + size[0]]
    return np.nonzero(part[:, :, 0] - part[:, :, 2] > 90)


def ink(picture, label, half=12):
    """Bright pixels of a letter, cut to the letter."""
    x, y = round(label.x), round(label.y)
    bright = picture[y - half : y + half, x - half : x + half].min(axis=2) > 110
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return bright[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def upper_right(glyph):
    """Share of ink in the upper right quarter: an R has its bow there, an L nothing at all."""
    return glyph[: glyph.shape[0] // 2 - 1, glyph.shape[1] // 2 + 1 :].mean()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_lesion_on_the_patients_right_is_on_the_viewers_left_beside_the_r(order, signs):
    image, mask, affine = phantom(turn=rotation(9, 0) @ rotation(-7, 1) @ rotation(6, 2))
    stored, matrix = turned(image, affine, order, signs)
    stored_mask, _ = turned(mask, affine, order, signs)
    layout = plan_overlay(compose_scene(stored, matrix, stored_mask, slices=1))
    picture = pixels(draw_overlay(stored, matrix, stored_mask, slices=1))

    (tile,) = layout.tiles
    rows, columns = lesion_pixels(picture, tile, layout.tile_size)
    assert len(rows) > 50
    assert columns.max() < layout.tile_size[0] / 2
    assert rows.max() < layout.tile_size[1] / 2  # the lesion lies in front, and the front is up
    by_text = {label.text: label for label in layout.letters}
    assert set(by_text) == {"R", "L", "A", "P"}
    x = tile.x + columns.mean()
    assert abs(x - by_text["R"].x) < abs(x - by_text["L"].x)
    assert by_text["A"].y < tile.y + rows.mean() < by_text["P"].y
    assert upper_right(ink(picture, by_text["R"])) > 0.3
    assert upper_right(ink(picture, by_text["L"])) == 0


def test_all_48_orientations_give_the_same_plan_and_the_same_image():
    image, mask, affine = phantom(turn=rotation(12, 0))
    plain = compose_scene(image, affine, mask, slices=4)
    for order, signs in ORIENTATIONS:
        stored, matrix = turned(image, affine, order, signs)
        scene = compose_scene(stored, matrix, turned(mask, affine, order, signs)[0], slices=4)
        assert plan_overlay(scene) == plan_overlay(plain)
        np.testing.assert_array_equal(scene.images[0], plain.images[0])
        np.testing.assert_array_equal(scene.lesion, plain.lesion)


def test_lesion_on_the_patients_left_is_on_the_viewers_right():
    image, mask, affine = phantom(lesion_at=(-40.0, -45.0, 0.0))
    layout = plan_overlay(compose_scene(image, affine, mask, slices=1))
    rows, columns = lesion_pixels(
        pixels(draw_overlay(image, affine, mask, slices=1)), layout.tiles[0], layout.tile_size
    )
    assert columns.min() > layout.tile_size[0] / 2
    assert rows.min() > layout.tile_size[1] / 2


def test_mirrored_affine_moves_the_lesion_to_the_other_side_of_the_picture():
    image, mask, affine = phantom()
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine
    sides = []
    for matrix in (affine, mirrored):
        layout = plan_overlay(compose_scene(image, matrix, mask, slices=1))
        _, columns = lesion_pixels(
            pixels(draw_overlay(image, matrix, mask, slices=1)), layout.tiles[0], layout.tile_size
        )
        sides.append(columns.mean() / layout.tile_size[0])
    assert sides[0] < 0.5 < sides[1]


def test_every_tile_of_both_rows_carries_r_and_l():
    image, mask, affine = phantom()
    layout = plan_overlay(compose_scene(image, affine, mask, second=(image / 100, "ADC")))
    picture = pixels(draw_overlay(image, affine, mask, second=(image / 100, "ADC")))
    assert len(layout.tiles) == 2 * 7
    width, height = layout.tile_size
    for tile in layout.tiles:
        inside = [
            label
            for label in layout.letters
            if tile.x <= label.x < tile.x + width and tile.y <= label.y < tile.y + height and label.text in "RL"
        ]
        assert [label.text for label in sorted(inside, key=lambda label: label.x)] == ["R", "L"]
        for label in inside:
            assert (upper_right(ink(picture, label)) > 0.3) == (label.text == "R")


def test_letters_follow_the_affine_and_are_not_written_blindly():
    assert viewer_letters(np.diag([2.0, 2.0, 2.0, 1.0])) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert viewer_letters(np.diag([-2.0, -2.0, 2.0, 1.0])) == {"left": "L", "right": "R", "top": "P", "bottom": "A"}


def test_turning_keeps_every_voxel_at_its_place():
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    affine = centred_affine(array.shape, (1.0, 2.0, 3.5), rotation(20, 2) @ rotation(11, 0))
    for order, signs in ORIENTATIONS:
        stored, matrix = turned(array, affine, order, signs)
        back, back_affine = to_canonical(stored, matrix)
        np.testing.assert_array_equal(back, array)
        np.testing.assert_allclose(back_affine, affine, atol=1e-12)


def test_slices_with_most_lesion_are_chosen_from_feet_to_head():
    lesion = np.array([0, 5, 0, 9, 2, 0, 0, 7, 0, 0])
    assert choose_slices(lesion, np.full(10, 100), 3) == [1, 3, 7]
    # A fourth slice with lesion, then the ones farthest from what is there: 9 (two away), then the first gap of one.
    assert choose_slices(lesion, np.full(10, 100), 5) == [1, 3, 4, 7, 9]


def test_slices_are_spread_evenly_through_the_brain_without_a_lesion():
    brain = np.array([0, 0, *[100] * 20, 0, 0, 0])
    assert choose_slices(np.zeros(25, int), brain, 10) == [3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    assert choose_slices(np.zeros(3, int), np.zeros(3, int), 10) == [0, 1, 2]
    assert choose_slices(np.zeros(1, int), np.ones(1, int), 10) == [0]


def test_slice_positions_are_written_in_millimetres():
    image, mask, affine = phantom()
    layout = plan_overlay(compose_scene(image, affine, mask))
    captions = [label.text for label in layout.texts if label.text.startswith("S ")]
    # Seven slices of 12 mm around 0, the head ends at 45 mm: all seven reach into it.
    assert captions == ["S −36.0 mm", "S −24.0 mm", "S −12.0 mm", "S 0.0 mm", "S +12.0 mm", "S +24.0 mm", "S +36.0 mm"]


@pytest.mark.parametrize("spacing", [(1.0, 2.5, 5.0), (6.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_lengths_are_right_on_anisotropic_pixels(spacing):
    shape = tuple(int(150 / s) for s in spacing)
    affine = centred_affine(shape, spacing)
    mask = np.zeros(shape, bool)
    cells = [round(30 / s) for s in spacing]
    mask[tuple(slice(s // 2, s // 2 + c) for s, c in zip(shape, cells, strict=True))] = True
    image = np.full(shape, 50.0)
    layout = plan_overlay(compose_scene(image, affine, mask, slices=1))
    rows, columns = lesion_pixels(
        pixels(draw_overlay(image, affine, mask, slices=1)), layout.tiles[0], layout.tile_size
    )
    expected = 30 * layout.pixels_per_mm
    assert np.ptp(columns) + 1 == pytest.approx(expected, abs=3.5)
    assert np.ptp(rows) + 1 == pytest.approx(expected, abs=3.5)
    (bar,) = [key for key in layout.keys if key.kind == "length"]
    assert bar.width == pytest.approx(50 * layout.pixels_per_mm, abs=0.5)


def test_outline_runs_along_the_voxel_borders():
    mask = np.zeros((10, 10, 1), bool)
    mask[6, 7, 0] = True
    affine = centred_affine(mask.shape, (10.0, 10.0, 10.0))
    image = np.ones(mask.shape)
    layout = plan_overlay(compose_scene(image, affine, mask))
    tile = layout.tiles[0]
    rows, columns = lesion_pixels(pixels(draw_overlay(image, affine, mask)), tile, layout.tile_size)
    cell = layout.image_size[0] / 10
    # Column 9 - 6 = 3 from the patient's right, row 9 - 7 = 2 from the front.
    left, top = tile.image_x - tile.x + 3 * cell, tile.image_y - tile.y + 2 * cell
    assert columns.min() == pytest.approx(left, abs=2)
    assert columns.max() == pytest.approx(left + cell, abs=2)
    assert rows.min() == pytest.approx(top, abs=2)
    assert rows.max() == pytest.approx(top + cell, abs=2)


def test_fill_is_deeper_where_the_probability_is_higher():
    image, mask, affine = phantom()
    colours = []
    for value in (0.1, 0.9):
        png = draw_overlay(image, affine, mask, probability=np.full(image.shape, value), slices=1)
        layout = plan_overlay(compose_scene(image, affine, mask, probability=np.full(image.shape, value), slices=1))
        rows, columns = lesion_pixels(pixels(png), layout.tiles[0], layout.tile_size)
        y, x = layout.tiles[0].y + round(rows.mean()), layout.tiles[0].x + round(columns.mean())
        colours.append(pixels(png)[y, x])
    # Blue falls from the white of the head (255) towards 19: by 10 % of the way, by 26 %.
    assert colours[0][2] == pytest.approx(255 - 0.10 * 236, abs=2)
    assert colours[1][2] == pytest.approx(255 - 0.26 * 236, abs=2)


def test_empty_mask_leaves_the_slices_uncoloured():
    image, mask, affine = phantom()
    layout = plan_overlay(compose_scene(image, affine, mask * 0))
    picture = pixels(draw_overlay(image, affine, mask * 0))
    assert all(len(lesion_pixels(picture, tile, layout.tile_size)[0]) == 0 for tile in layout.tiles)


def test_adc_is_shown_from_0_to_2_with_its_unit():
    image, mask, affine = phantom()
    adc = np.where(image > 0, 0.8, np.nan)
    layout = plan_overlay(compose_scene(image, affine, mask * 0, second=(adc, "ADC")))
    picture = pixels(draw_overlay(image, affine, mask * 0, second=(adc, "ADC")))
    tile = next(t for t in layout.tiles if t.layer == 1 and t.position == 3)
    centre = picture[tile.y + layout.tile_size[1] // 2, tile.x + layout.tile_size[0] // 2]
    assert centre.tolist() == [102, 102, 102]  # 0.8 of 2 of 255
    assert {"ADC 0", "2 ×10⁻³ mm²/s"} <= {label.text for label in layout.texts}


def test_same_input_gives_the_same_bytes_without_date_or_software():
    image, mask, affine = phantom()
    first, again = (draw_overlay(image, affine, mask, slices=2, title_lines=["Model"]) for _ in range(2))
    assert first == again
    chunks, at = [], 8
    while at < len(first):
        chunks.append(first[at + 4 : at + 8])
        at += 12 + int.from_bytes(first[at : at + 4], "big")
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_notice_is_always_there_and_synthetic_when_it_is():
    image, mask, affine = phantom()
    scene = compose_scene(image, affine, mask, slices=1)
    texts = [{label.text for label in plan_overlay(scene, synthetic=s).texts} for s in (False, True)]
    assert all(NOTICE in t for t in texts)
    assert [SYNTHETIC in t for t in texts] == [False, True]


@pytest.mark.parametrize("slices", [1, 3, 7])
def test_nothing_is_cut_off(slices):
    image, mask, affine = phantom()
    title = ["A model with quite a long name that somebody made at home " * 4, "MMMM WWWW " * 30]
    options = {"slices": slices, "second": (image, "ADC"), "second_window": (0.0, 100.0)}
    picture = pixels(draw_overlay(image, affine, mask, title_lines=title, synthetic=True, **options))
    margin = EDGE // 2
    assert picture[:, -margin:].max() == 0
    assert picture[:, :margin].max() == 0
    assert picture[:margin].max() == 0
    assert picture[-margin:].max() == 0


@pytest.mark.parametrize("shape", [(20, 24, 1), (1, 24, 20), (20, 1, 24), (1, 1, 1)])
def test_single_slices_of_any_direction_are_drawn(shape):
    affine = centred_affine(shape, (5.0, 5.0, 5.0))
    layout = plan_overlay(compose_scene(np.ones(shape), affine, np.ones(shape, bool)))
    picture = pixels(draw_overlay(np.ones(shape), affine, np.ones(shape, bool)))
    assert picture.shape == (layout.height, layout.width, 3)
    assert len(layout.tiles) == min(shape[2], 10)
    assert len(lesion_pixels(picture, layout.tiles[0], layout.tile_size)[0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 7.0, -3.0])
def test_image_without_contrast_is_drawn(value):
    image = np.full((8, 8, 3), value)
    assert draw_overlay(image, np.diag([9.0, 9.0, 9.0, 1.0]), image > 99, second=(image, "ADC")).startswith(b"\x89PNG")


def test_arrays_on_different_grids_are_refused():
    image, mask, affine = phantom()
    with pytest.raises(ValueError, match=r"mask has the shape \(34, 30, 6\), the background \(34, 30, 7\)"):
        draw_overlay(image, affine, mask[:, :, :6])
    with pytest.raises(ValueError, match="three axes"):
        draw_overlay(image[0], affine, mask[0])


def test_crop_keeps_the_brain_and_a_margin():
    brain = np.zeros((50, 40, 3), bool)
    brain[20:31, 2:10, 1] = True
    # 4 mm are two voxels of 2 mm and, rounded up, two of 3 mm; the array begins at 0.
    assert crop_box(brain, (2.0, 3.0, 5.0), 4.0) == (slice(18, 33), slice(0, 12))
    assert crop_box(brain * False, (2.0, 3.0, 5.0), 4.0) == (slice(0, 50), slice(0, 40))


def test_window_ignores_air_and_a_few_bright_voxels():
    image = np.zeros((10, 10, 10))
    image[2:8] = np.linspace(100, 200, 600).reshape(6, 10, 10)
    image[5, 5, 5] = 1e6
    inside = foreground(image)
    assert inside.sum() == 600
    low, high = robust_window(image, inside)
    assert 100 <= low < 102
    assert 198 < high <= 200.5


def test_enlarging_is_linear_between_voxel_centres():
    np.testing.assert_allclose(enlarge(np.array([[0.0, 4.0]]), (1, 4)), [[0.0, 1.0, 3.0, 4.0]])


def test_a_picture_is_drawn_without_loading_matplotlib():
    code = (
        "import sys, numpy as np, strokeseg.report as r; assert 'PIL' not in sys.modules;"
        "a = np.ones((4, 4, 2)); r.draw_overlay(a, np.eye(4), a); assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
