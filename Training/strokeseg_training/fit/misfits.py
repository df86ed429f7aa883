"""What in a recipe contradicts the rest of it; said before anything is trained."""

from __future__ import annotations

from torch import nn

from strokeseg.errors import InputError
from strokeseg.networks import form_of
from strokeseg_training.recipe import Recipe

_TITLE = "The recipe's network does not fit the rest of it."
_DATA = "The recipe's data do not fit the rest of it."


def refuse_misfit(network: nn.Module, recipe: Recipe) -> None:
    """See that a network, its input, its data and its loss fit each other.

    Raises:
        InputError: Names what does not fit.
    """
    form, preparation = form_of(network), recipe.preparation
    if form.in_channels != len(preparation.channels):
        raise InputError(
            _TITLE,
            f"It takes {form.in_channels} channels, 'preparation.channels' names {len(preparation.channels)}.",
            f"Set 'network.arguments.in_channels={len(preparation.channels)}', or correct the channels.",
        )
    # Where the card names the only size, crops have that one, and volumes are run by windows of it.
    if preparation.multiple % form.multiple and recipe.card.input_shape is None:
        raise InputError(
            _TITLE,
            f"Its input must be a multiple of {form.multiple} along each axis; crops are padded to multiples of "
            f"{preparation.multiple}.",
            f"Set 'preparation.multiple={form.multiple}'.",
        )
    _refuse_slices(recipe, slices=form.slices, multiple=form.multiple)
    if recipe.objective is not None:
        return
    if not all(preparation.spacing_mm):
        raise InputError(
            _DATA,
            "'preparation.spacing_mm' keeps the scan's own spacing along an axis, and 'loss' counts in ml of one size "
            "of voxels.",
            "Give an 'objective' in place of 'loss', or three spacings above 0.",
        )
    if len(recipe.card.classes) > 1:
        raise InputError(
            _TITLE,
            f"'card.classes' has {len(recipe.card.classes)} classes, and 'loss' knows lesion and no lesion only.",
            "Give an 'objective' in place of 'loss', e.g. 'objective.name=cce-dice'.",
        )
    if any(stage.loss.tissue.weight for stage in recipe.stages) and "tissue" not in form.outputs:
        raise InputError(
            _TITLE,
            "'loss.tissue' has a weight, and the network has no output 'tissue'.",
            "Set 'network.arguments.tissue=true' or 'loss.tissue=0'.",
        )
    if any(not stage.loss.weights for stage in recipe.stages):
        raise InputError(
            "The recipe has no loss.", "Every term has the weight 0.", "Give one a weight, e.g. 'loss.dice=1'."
        )


def _refuse_slices(recipe: Recipe, *, slices: bool, multiple: int) -> None:
    """The network on slices, its data, and how the engine will run it."""
    said = recipe.datasets.slices if recipe.datasets else None
    if not slices and said is None:
        return
    if not slices:
        raise InputError(
            _DATA,
            f"The network '{recipe.network.name}' works on volumes, and 'datasets.slices' makes slices.",
            "Leave out 'datasets.slices', or choose a network for slices.",
        )
    if said is None or recipe.card.strategy != "slices":
        raise InputError(
            _DATA,
            f"The network '{recipe.network.name}' works on slices.",
            "Give 'datasets.slices', and set 'card.strategy=slices'.",
        )
    if said.axis != "axial" or said.fit != "crop":
        raise InputError(
            _DATA,
            f"'datasets.slices' has the axis '{said.axis}' and the fit '{said.fit}'; the engine runs networks on axial "
            "slices that are cut, not stretched.",
            "Set 'datasets.slices.axis=axial' and 'datasets.slices.fit=crop'.",
        )
    if said.size is not None and any(n % multiple for n in said.size):
        raise InputError(
            _DATA,
            f"'datasets.slices.size' is {list(said.size)}; the network takes multiples of {multiple}.",
            "Correct the size.",
        )
    for stage in recipe.stages:
        if stage.data.generator is not None or stage.data.bank is not None:
            raise InputError(
                _DATA,
                "Slices are made of prepared patients, and a stage names a generator or a bank.",
                "Give 'data.prepared' alone; synthetic patients can be written as a data set by 'strokeseg-train "
                "synthesize' and prepared like real ones.",
            )
        if stage.data.extra_voxels:
            raise InputError(_DATA, "Slices have no margin that could grow.", "Set 'data.extra_voxels=0'.")
