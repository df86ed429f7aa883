"""The page about the published systems names recipes and options that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="recipes and networks need torch, which is not installed")

import yaml

from strokeseg.networks import build
from strokeseg_training.fit.misfits import refuse_misfit
from strokeseg_training.recipe import load_recipe, recipe_names

PAGE = (Path(__file__).parents[2] / "StrokeSegExtension" / "docs" / "systems.md").read_text(encoding="utf-8")
# Not after a publication.
OUR_OWN = {"dwi-adc", "dwi-adc-finetune", "t1"}
# What makes a network small enough to be built for the sake of one argument's name.
TINY: dict[str, dict[str, Any]] = {
    "lesion-net": {"width": 8, "depths": [1], "heads": [2], "reductions": [1], "decoder_width": 8},
    "atlas-unet": {"channels": [2, 2]},
    "atlas-segnet": {"channels": [2, 2]},
    "atlas-resunet": {"channels": [2, 2]},
    "attention-unet-3d": {"features": 2, "levels": 1},
    "mscs-net": {"channels": [2], "units": [5], "pooled": 2, "decoder_channels": [2, 2]},
    "segformer3d": {"widths": [8], "depths": [1], "heads": [2], "reductions": [1], "decoder_width": 8},
}


def sections() -> dict[str, tuple[list[str], str]]:
    """Heading to the recipes that a section names in its first line, and its text."""
    found = {}
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, rest = text.partition("\n")
        said = re.search(r"^Recipes?: (.*)$", rest, flags=re.MULTILINE)
        names = re.findall(r"`([^`]+)`", said[1]) if said else []
        found[heading] = (names, rest)
    return found


def options() -> list[tuple[str, str]]:
    """Recipe and setting of every option that the page names."""
    found = []
    for names, text in sections().values():
        for recipe, setting in re.findall(r"`(?:--recipe (\S+) )?--set ([^`]+)`", text):
            found += [(name, setting) for name in ([recipe] if recipe else names)]
    return found


def test_every_recipe_after_a_publication_has_a_section_and_every_section_a_recipe() -> None:
    named = {name for names, _ in sections().values() for name in names}
    assert named == set(recipe_names()) - OUR_OWN
    assert [heading for heading, (names, _) in sections().items() if not names] == ["The same for all"]


def test_every_option_is_written_so_that_it_is_looked_at_here() -> None:
    assert PAGE.count("--set ") == len(re.findall(r"`(?:--recipe \S+ )?--set [^`]+`", PAGE)) > 20


@pytest.mark.parametrize(("recipe", "setting"), options())
def test_an_option_is_taken_by_the_recipe_and_its_network(recipe: str, setting: str) -> None:
    key, _, text = setting.partition("=")
    made = load_recipe(recipe, [setting])
    seen: Any = made.as_data()
    for part in key.split("."):
        seen = seen[part]
    wanted = yaml.safe_load(text)
    assert (dict(list(seen.items()) + list(wanted.items())) if isinstance(wanted, dict) else wanted) == seen
    if key.startswith("network."):
        build(recipe, **{**made.network.arguments, **TINY[recipe]})


@pytest.mark.parametrize("recipe", ["atlas-unet", "atlas-segnet", "atlas-resunet"])
def test_what_is_said_of_the_second_release_of_atlas_makes_a_recipe_that_fits_itself(recipe: str) -> None:
    paragraph = next(p for p in PAGE.split("\n\n") if p.startswith("Release 2 of ATLAS"))
    settings = [s for s in re.findall(r"`([^`]+)`", paragraph) if "=" in s]
    first = load_recipe(recipe).as_data()["card"]["classes"][:1]
    made = load_recipe(recipe, [*settings, f"card.classes={yaml.safe_dump(first, default_flow_style=True)}"])
    assert len(settings) == 3
    assert made.datasets is not None
    assert (made.datasets.layout, len(made.datasets.classes), len(made.card.classes)) == ("atlas-r2", 1, 1)
    refuse_misfit(build(recipe, **{**made.network.arguments, **TINY[recipe]}), made)
