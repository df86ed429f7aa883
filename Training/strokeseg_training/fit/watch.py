"""`Watch`: which validation was the best, and for how long nothing was better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from strokeseg_training.recipe_parts import Schedule, Validation


class Watch:
    """Sees every validation of a run.

    Args:
        validation: Says what is watched, and for how long.
        schedule: Says when the learning rate falls.
        state: Of the checkpoint from which the run goes on; empty for a new run.

    Attributes:
        dice: Of the best validation; NaN before there is one.
        step: Of the best validation.
        drops: How often the learning rate was lowered.
    """

    def __init__(self, validation: Validation, schedule: Schedule, state: Mapping[str, Any]) -> None:
        self._validation, self._schedule = validation, schedule
        best = state.get("best", (-1.0, 0))
        found = state.get("watch", {"best": float(best[0]), "since": 0, "on_plateau": 0, "drops": 0})
        self.dice, self.step = (float(best[0]), int(best[1])) if best[1] else (math.nan, 0)
        # Higher is better; the first validation is better than none.
        self._best = float(found["best"]) if self.step else -math.inf
        self._since, self._on_plateau, self.drops = (int(found[k]) for k in ("since", "on_plateau", "drops"))

    def see(self, found: Mapping[str, float], step: int) -> bool:
        """Whether a validation is better than all before; one whose value is no number is not."""
        value = -found["loss"] if self._validation.watch == "loss" else found["dice"]
        if value > self._best:
            self._best, self.dice, self.step = value, found["dice"], step
            self._since = self._on_plateau = 0
            return True
        self._since += 1
        self._on_plateau += 1
        if self._schedule.rule == "plateau" and self._on_plateau > self._schedule.patience:
            self._on_plateau = 0
            self.drops += 1
        return False

    @property
    def over(self) -> bool:
        """Whether nothing got better for longer than the recipe's patience."""
        return 0 < self._validation.patience < self._since

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        counted = {"best": self._best, "since": self._since, "on_plateau": self._on_plateau, "drops": self.drops}
        return {"best": (self.dice if self.step else -1.0, self.step), "watch": counted}
