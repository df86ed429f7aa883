"""`Decision`: the part of a card that says how probability becomes mask. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from strokeseg.models.fields import Fields

RULES = ("threshold", "argmax", "cascade")
MOST_STEPS = 8


@dataclass(frozen=True)
class CascadeStep:
    """A threshold, and which maps it is for.

    Attributes:
        maximum: The largest probability in the brain must be above this.
        threshold: Probability from which a voxel is lesion.
        volume_ml: What this threshold makes lesion must be more than this.
    """

    maximum: float
    threshold: float
    volume_ml: float


@dataclass(frozen=True)
class Decision:
    """How probability becomes mask.

    Attributes:
        rule: Of `RULES`.
        threshold: Probability from which a voxel is lesion; for ``cascade``, in maps that no step is for.
        steps: Of ``cascade``: the first that fits a map gives its threshold.
        peak: Of ``threshold``: a lesion must reach this probability in one voxel at least; 0: it need not.
    """

    rule: str
    threshold: float
    steps: tuple[CascadeStep, ...] = ()
    peak: float = 0.0


def parse_decision(fields: Fields) -> Decision:
    """From a card's ``decision``.

    Raises:
        ModelError: Names the field, what was expected and what was found.
    """
    rule, peak = fields.choice("rule", RULES), 0.0
    if rule == "cascade":
        steps = tuple(_step(f) for f in fields.parts("steps"))
        threshold = fields.number("threshold", 0.0, 1.0)
        if len(steps) > MOST_STEPS:
            raise fields.wrong("steps", f"at most {MOST_STEPS} steps", len(steps))
        falling = [*(s.threshold for s in steps), threshold]
        if any(after >= before for before, after in pairwise(falling)):
            raise fields.wrong("steps", "thresholds that fall from step to step, 'threshold' the lowest", falling)
    else:
        steps, threshold = (), fields.number("threshold", 0.0, 1.0, 0.5)
        if rule == "threshold":
            peak = fields.number("peak", 0.0, 1.0, 0.0)
            if 0.0 < peak < threshold:
                raise fields.wrong("peak", f"0, or a number from the threshold, {threshold:g}, to 1", peak)
    fields.done()
    return Decision(rule, threshold, steps, peak)


def _step(fields: Fields) -> CascadeStep:
    step = CascadeStep(
        maximum=fields.number("maximum", 0.0, 1.0),
        threshold=fields.number("threshold", 0.0, 1.0),
        volume_ml=fields.number("volume_ml", 0.0, 1000.0),
    )
    fields.done()
    return step
