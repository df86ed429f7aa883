"""`Augmenter`: an example varied as a recipe says, by its number alone."""

from __future__ import annotations

import numpy as np

from strokeseg_training.augment.computed import refuse_inconsistent
from strokeseg_training.augment.example import Example, refuse_damaged
from strokeseg_training.augment.geometry import apply_move, draw_move
from strokeseg_training.augment.intensity import STEPS, change_intensities
from strokeseg_training.recipe_augment import Augmentation

_AUGMENTATION = 44  # names the stream of random numbers
# Every kind of variation has random numbers of its own: leaving one out changes no other.
_STREAMS = ("flips", "rotation", "scale", "elastic", *STEPS)


class Augmenter:
    """Varies examples.

    Args:
        settings: Of the recipe.
        seed: Of the recipe.
    """

    def __init__(self, settings: Augmentation, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def __call__(self, example: Example, number: int) -> Example:
        """A variation of an example.

        Args:
            example: Left as it is.
            number: Of the example in the run, counted over all epochs: seed and number say what is drawn, whichever
                process does it.

        Returns:
            The same shapes and types. Labels, brain and midplane have gone with the images; boxes are those of the new
            labels (`boxes_of`).

        Raises:
            InputError: The example is damaged, a slice would be turned out of its plane, or a channel is computed of
                several places and cannot follow.
        """
        refuse_inconsistent(example.channels, self._settings)
        refuse_damaged(example)
        source = np.random.SeedSequence([self._seed, _AUGMENTATION, number])
        streams = {n: np.random.default_rng(s) for n, s in zip(_STREAMS, source.spawn(len(_STREAMS)), strict=True)}
        settings = self._settings
        brain = example.maps.get("brain")
        # Channels of the engine are 0 outside the brain, and shall stay so; whole heads are not.
        bare = brain is not None and not bool(example.images[:, brain == 0].any())
        moved = apply_move(example, draw_move(settings, streams), labels=settings.labels, outside=settings.outside)
        inside = moved.maps["brain"] > 0.5 if bare else None
        if inside is not None and moved.images is not example.images:
            moved.images.mul_(inside)
        varied = change_intensities(moved, settings, streams, inside)
        if varied.images is not example.images:
            refuse_damaged(varied)
        return varied
