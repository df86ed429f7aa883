"""What several commands of ``strokeseg-train`` have in common: options, what was typed, a library that is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from strokeseg.errors import DependencyError

DataRecipeOption = Annotated[str, typer.Option(help="Name of a recipe with 'datasets', or a YAML file. Required.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. datasets.split.seed=7; repeatable."
    ),
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", metavar="NAME", help="Leave a patient out; repeatable.")
]


def words(command: str, named: Mapping[str, str | list[str] | None]) -> list[str]:
    """What was typed: the command and its options, those of None left out."""
    typed = ["strokeseg-train", command]
    for option, given in named.items():
        for value in [given] if isinstance(given, str) else given or []:
            typed += [option, value]
    return typed


@contextmanager
def libraries(title: str) -> Iterator[None]:
    """A library that is missing, said for people; `title` is what cannot be done."""
    try:
        yield
    except ImportError as error:
        raise DependencyError(
            title, f"A library is missing: {error}.", "Install it with: pip install 'strokeseg[train]'."
        ) from error
