"""Which property of the generator could be behind an error: rules over where the component lies and what is seen there.

The rules put into words what listing the errors of earlier models has shown (the pilot's table in the science notes):
which healthy tissue looks like infarct, and which infarcts look like healthy tissue. They are hints where to look
first, in order; the first one that holds is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Component:
    """One false or missed component; NaN where an image or a whole brain that it needs is not there.

    Attributes:
        ml: Volume.
        height: Mean height in the brain, 0 to 1.
        frontness: Mean place from the back (0) to the front (1).
        depth_mm: Mean depth under the edge of the brain mask.
        off_middle: Mean distance from the mid-sagittal plane as a share of the brain's half width.
        region: The region that holds most of it; "-" in a slab.
        side: "left", "right" or "midline".
        dwi: Mean DWI over that of the patient's normal tissue.
        adc: Mean ADC, 1e-3 mm²/s.
        mirror: Mean logarithm of the DWI over that of the other side.
        outside: Share of it outside the brain mask.
        slice: Index of the slice in the case's grid, from the bottom, that holds its middle.
    """

    ml: float
    height: float
    frontness: float
    depth_mm: float
    off_middle: float
    region: str
    side: str
    dwi: float
    adc: float
    mirror: float
    outside: float
    slice: int

    @property
    def is_symmetric(self) -> bool:
        """Whether the other side is nearly as bright."""
        return abs(self.mirror) < 0.12

    def words(self) -> str:
        """Its place and contrast in a line."""
        place = f"{self.side}, {self.region}, " if self.region != "-" else f"{self.side}, "
        height = "" if math.isnan(self.height) else f"height {self.height:.0%}, "
        seen = "" if math.isnan(self.dwi) else f", DWI x{self.dwi:.2f}, ADC {self.adc:.2f}, mirror {self.mirror:+.2f}"
        return f"{self.ml:6.2f} ml, {place}{height}{self.depth_mm:.0f} mm deep{seen}, slice {self.slice}"


Rule = tuple[Callable[[Component], bool], str]

_FALSE: tuple[Rule, ...] = (
    (
        lambda c: c.adc < 0.3,
        "signal void or failed ADC: voids, clipped and masked ADC maps (corruption, susceptibility) are too rare",
    ),
    (
        lambda c: c.adc > 1.2,
        "partly fluid: T2 shine-through, old cavities and cortex beside wide sulci as label 0 (distractors, ageing)",
    ),
    (
        lambda c: c.region == "cerebellum" and c.dwi < 2.0,
        "bright cerebellum: the hind-brain's DWI reaches 1.25-1.5 and its ADC 0.88-0.95 of the cerebrum's; widen both",
    ),
    (
        lambda c: c.region == "brain stem" and c.dwi < 2.0,
        "brain stem: tracts stay bright on trace images at normal ADC (anisotropy), stem brightness too narrow",
    ),
    (
        lambda c: c.height < 0.4 and c.off_middle > 0.5 and c.dwi >= 1.3 and 0.2 < c.frontness < 0.75,
        "above the ear canals: susceptibility pile-up (DWI x 2-4 at ADC 0.8-1.1, often both sides) is too rare or weak",
    ),
    (
        lambda c: c.frontness > 0.8 and c.height < 0.6 and c.dwi >= 1.3,
        "above the frontal sinus or orbit: susceptibility pile-up at the frontal base is too rare or weak",
    ),
    (
        lambda c: c.height < 0.4 and c.depth_mm < 8.0 and c.dwi >= 1.5,
        "skull base: susceptibility pile-up and distortion near air are too rare or weak",
    ),
    (
        lambda c: c.depth_mm < 4.0 and c.dwi >= 1.2,
        "rim of the mask: skull-strip errors, pile-up along the edge and eddy shifts between b0 and DWI are too rare",
    ),
    (
        lambda c: c.is_symmetric and 1.1 <= c.dwi < 2.0 and c.adc < 1.0,
        "healthy tissue bright on both sides (occipital poles, medial frontal, insular and cingulate cortex, tracts): "
        "widen regional DWI and ADC; or the mirror channels are not used",
    ),
    (
        lambda c: c.adc > 0.95 and c.dwi >= 1.2,
        "bright at normal ADC: too many late lesions (bright by T2 alone) are taught, or too little T2 shine-through",
    ),
    (
        lambda c: c.dwi < 1.2,
        "not bright: low ADC alone is called lesion; ADC noise and texture are too tame, or lesions too faint",
    ),
    (
        lambda c: c.ml < 0.1,
        "a speck: noise, texture and ghosts of this size are too rare for the number of emboli taught",
    ),
    (
        lambda c: c.side == "midline",
        "at the mid-plane: the mirror difference means nothing there; bright midline tissue is too rare",
    ),
)
_NO_FALSE = "no rule fits: a one-sided bright spot with restricted diffusion; look at the picture (reference complete?)"

_MISSED: tuple[Rule, ...] = (
    (
        lambda c: c.outside > 0.3,
        "outside the brain mask: masks that cut into the cortex (skull-strip errors) are too mild in training",
    ),
    (
        lambda c: c.adc > 1.15,
        "mixed with fluid: lesions beside sulci and partial volume (soft label, ageing, slice thickness) are too rare",
    ),
    (
        lambda c: 1.15 <= c.dwi < 1.8 and 0.85 <= c.adc <= 1.15,
        "weak and soft: DWI x 1.2-1.8 at ADC 0.85-1.15 (late, patchy, half-hit tissue); lesions taught are too strong",
    ),
    (
        lambda c: c.dwi < 1.15,
        "barely visible on DWI: faint and hyperacute lesions are too rare, or the expert drew generously",
    ),
    (
        lambda c: c.ml < 0.15,
        "a small embolus: number, contrast and partial volume of emboli, and their weight in the loss",
    ),
    (
        lambda c: c.region in ("cerebellum", "brain stem"),
        "hind-brain lesion: too few are taught, or the hind-brain's healthy brightness is too wild",
    ),
    (
        lambda c: c.is_symmetric,
        "the other side is as bright: bilateral and midline infarcts are too rare beside the mirror channels",
    ),
    (
        lambda c: c.side == "midline",
        "at the mid-plane: midline infarcts are too rare beside the mirror channels",
    ),
    (
        lambda c: c.depth_mm < 5.0,
        "cortex at the edge: healthy bright rims are too common in training, cortical lesions too rare",
    ),
)
_NO_MISSED = (
    "no rule fits: clear contrast, not small; shape or place is not drawn by the generator, look at the picture"
)


def cause_of_false(component: Component) -> str:
    """Which property of the generator a false component speaks of."""
    return _first(_FALSE, component, _NO_FALSE)


def cause_of_missed(component: Component) -> str:
    """Which property of the generator a missed lesion speaks of."""
    return _first(_MISSED, component, _NO_MISSED)


def _first(rules: tuple[Rule, ...], component: Component, otherwise: str) -> str:
    # A comparison with NaN is false: a rule about what is not known does not hold.
    return next((sentence for holds, sentence in rules if holds(component)), otherwise)
