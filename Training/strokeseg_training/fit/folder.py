"""The folder of a run: free at first, and where it is resumed, a run of the same recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strokeseg.errors import InputError
from strokeseg_training.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"
# What may differ where a run goes on: none of it changes what is computed in a step.
_FREE = {"title", "threads", "log_every", "tensorboard", "wandb", "validation", "checkpoint", "card", "init_from"}
_FREE_DATA = {"workers", "prefetch"}


def refuse_used(run: Path) -> None:
    """Refuse a folder in which something is.

    Raises:
        InputError: It is no folder, or not empty.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise InputError(
            "The run cannot be written there.",
            f"'{run.name}' is not an empty folder.",
            "Give another folder with --out, or go on with the run in it by --resume.",
        )


def refuse_other_recipe(recipe: Recipe, run: Path) -> None:
    """Refuse to go on with another recipe than the run's own.

    Raises:
        InputError: There is no run, or a key that decides what is computed differs.
    """
    if not (run / RECIPE).is_file():
        raise InputError(
            "There is no run to resume.", f"'{run.name}' holds no {RECIPE}.", "Give the folder of a run with --out."
        )
    there, wanted = (_compared(r) for r in (load_recipe(run / RECIPE), recipe))
    differs = sorted(k for k in {*there, *wanted} if there.get(k) != wanted.get(k))
    if differs:
        shown = "; ".join(f"'{k}' was {there.get(k)!r:.60}, is {wanted.get(k)!r:.60}" for k in differs[:4])
        raise InputError(
            "The run cannot go on with another recipe.",
            shown + ("" if len(differs) <= 4 else f"; and {len(differs) - 4} more") + ".",
            "Resume with the same recipe and settings, or start a new run with --init-from.",
        )


def _compared(recipe: Recipe) -> dict[str, Any]:
    """Dotted keys and values that must not change within a run."""
    flat: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
        if pairs is None:
            flat[key] = value
            return
        for name, inner in pairs:
            if not (key.endswith("data") and name in _FREE_DATA):
                walk(inner, f"{key}.{name}" if key else str(name))

    # Where validations decide about the learning rate or the end, they are a part of what is computed.
    free = _FREE - ({"validation"} if recipe.schedule.rule == "plateau" or recipe.validation.patience else set())
    walk({k: v for k, v in recipe.as_data().items() if k not in free}, "")
    return flat


def write_recipe(recipe: Recipe, run: Path) -> None:
    """Write the whole recipe into the folder, which is made.

    Raises:
        InputError: The folder cannot be written to.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        partial = run / f".partial-{RECIPE}"
        partial.write_text(recipe.to_yaml(), encoding="utf-8")
        partial.replace(run / RECIPE)
    except OSError as error:
        raise InputError(
            "The run cannot be written there.",
            f"The system said about '{run.name}': {error.strerror or error}.",
            "Choose a folder in which you may write.",
        ) from error
