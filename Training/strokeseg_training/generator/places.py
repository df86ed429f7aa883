"""Where things are in the template: millimetres right, front and top of its origin (MNI), right half only.

Points read off the template's own slices and checked by picture; courses of arteries and tracts follow any anatomical
atlas to about 5 mm, far below what the deformations of a patient move. Only numbers; imports nothing.
"""

from __future__ import annotations

Point = tuple[float, float, float]

ARTERIES: dict[str, tuple[tuple[Point, ...], ...]] = {
    "aca": (
        ((6, 6, -14), (3, 28, -8), (3, 38, 8), (3, 30, 26), (3, 5, 40), (3, -25, 44), (3, -45, 46), (4, -58, 52)),
        ((3, 30, 26), (4, 45, 35), (8, 35, 55)),
        ((3, 5, 40), (5, 5, 62), (10, 0, 72)),
        ((3, -25, 44), (5, -30, 66), (10, -32, 74)),
        ((3, 28, -8), (4, 50, -12), (5, 62, 0), (6, 62, 18)),
    ),
    "mca": (
        ((10, 4, -16), (32, 4, -16), (40, 2, -4), (42, -14, 8), (46, -32, 18)),
        ((24, 2, -14), (25, 4, 4), (25, -4, 16)),
        ((40, 6, -2), (46, 28, 2), (42, 48, -2)),
        ((41, 6, 4), (52, 14, 20), (46, 30, 28), (36, 38, 34)),
        ((42, -4, 8), (58, -8, 24), (54, -14, 44), (38, -16, 58)),
        ((42, -14, 8), (60, -28, 30), (48, -40, 50)),
        ((46, -32, 18), (54, -52, 28), (46, -66, 32)),
        ((46, -32, 14), (58, -46, 8), (54, -64, 6)),
        ((40, 2, -8), (58, -10, -8), (64, -30, -4)),
        ((36, 4, -14), (46, 14, -26), (54, -4, -26)),
    ),
    "pca": (
        ((6, -18, -14), (16, -26, -12), (24, -38, -8), (18, -55, 0), (12, -72, 6), (8, -92, 4)),
        ((18, -55, 0), (12, -64, 20), (10, -74, 28)),
        ((24, -34, -10), (34, -26, -24), (34, -10, -34)),
        ((26, -42, -10), (40, -52, -18), (34, -72, -14), (24, -92, -8)),
        ((6, -18, -10), (8, -18, 2), (12, -20, 10)),
    ),
}
"""Main courses of the three cerebral arteries; a territory is what lies closest to one of them."""

TRACTS: dict[str, tuple[tuple[tuple[Point, ...], float], ...]] = {
    "corticospinal": (
        (((26, -22, 58), (26, -18, 30), (23, -14, 10), (15, -18, -12), (7, -24, -30), (3, -34, -56)), 4.5),
    ),
    "splenium": ((((0, -38, 12), (12, -42, 16), (24, -52, 18)), 5.0), (((0, -38, 8), (0, -38, 18)), 5.0)),
    "brachium_pontis": ((((10, -30, -34), (20, -42, -36), (26, -54, -36)), 5.0),),
}
"""Fibre bundles that stay brighter on trace images: polylines and radius in mm."""

AIR: dict[str, tuple[tuple[Point, Point], ...]] = {
    "petrous": (((46, -22, -42), (12, 10, 8)), ((54, -36, -42), (9, 11, 10))),
    "frontal": (((8, 76, -12), (18, 9, 14)), ((5, 50, -36), (9, 18, 8))),
    "sphenoid": (((4, 24, -36), (12, 14, 10)),),
}
"""Air-filled bone below the brain: centre and half axes of ellipsoids, cut where they reach into the brain."""

DEEP_GREY: tuple[tuple[Point, Point], ...] = (
    ((25, 2, 1), (10, 21, 13)),
    ((13, 14, 8), (7, 12, 13)),
    ((16, -4, 22), (5, 16, 6)),
    ((12, -19, 8), (11, 15, 11)),
)
"""Lentiform nucleus, head and body of the caudate nucleus, thalamus: centre and half axes."""

BRIGHT_CORTEX: tuple[tuple[Point, float], ...] = (
    ((7, 52, 2), 12),
    ((14, -88, 4), 13),
    ((6, 15, 34), 13),
    ((38, 6, 0), 12),
)
"""Cortex that is often brighter than the rest on diffusion images without any lesion: medial frontal, occipital pole,
cingulate, insular; centre and standard deviation in mm."""
