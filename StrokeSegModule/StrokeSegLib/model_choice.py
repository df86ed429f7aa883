"""Which model runs, what it needs, and why it cannot run on what is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slicer.i18n import tr as _

from strokeseg.models import ModelCard, ModelStore, automatic_model

from .parameters import AUTOMATIC
from .result_nodes import isOurs


class ModelChoice:
    """The models at hand.

    Attributes:
        cards: Name to card of every model that can be used.
        problems: A sentence for every model that cannot.
    """

    def __init__(self, store: ModelStore | None = None) -> None:
        stored = (store or ModelStore()).models()
        self.cards: dict[str, ModelCard] = {m.name: m.card for m in stored if m.card is not None}
        self.problems = [str(m.problem) for m in stored if m.card is None and m.problem is not None]

    def card(self, name: str, roles: Iterable[str]) -> ModelCard | None:
        """The card of a model; ``auto`` is the best one for these roles. None where there is none."""
        found = automatic_model(roles, self.cards) if name == AUTOMATIC else name
        return None if found is None else self.cards.get(found)

    def need(self, name: str, roles: Iterable[str], role: str) -> str:
        """What stands beside a role's selector."""
        given = set(roles)
        card = self.card(name, given)
        if card is None and name == AUTOMATIC:
            # Nothing fits yet: what any model could take.
            known = {i.role for other in self.cards.values() for i in other.inputs}
            return _("may be used") if role in known else _("not used")
        if card is None:
            return ""
        if role in missingRoles(card, given) or (role in card.required_roles and role in given):
            return _("required")
        return _("may be used") if role in rolesUsed(card, given | {role}) else _("not used")


def rolesUsed(card: ModelCard, given: Iterable[str]) -> set[str]:
    """Of the roles that are there those that the run is given; a b0 image stands in for a missing ADC map."""
    have = set(given)
    used = {i.role for i in card.inputs} & have
    if "adc" in card.required_roles and "adc" not in have:
        used |= {"b0"} & have
    return used


def missingRoles(card: ModelCard, given: Iterable[str]) -> list[str]:
    """Roles without which the model does not run."""
    have = set(given)
    have |= {"adc"} if {"dwi", "b0"} <= have else set()
    return [role for role in card.required_roles if role not in have]


def whyNot(
    models: ModelChoice,
    name: str,
    nodes: Mapping[str, Any],
    findings: Mapping[str, tuple[str, str]],
    window: tuple[int, int, int],
) -> str:
    """The reason why these volumes cannot be run now; "" where they can."""
    card = models.card(name, nodes)
    if card is None or not nodes:
        return _nothingFits(name, card, nodes)
    missing = missingRoles(card, nodes)
    if missing:
        text = _("The model '{title}' needs {roles} as well. Choose it under Input.")
        return text.format(title=card.title, roles=listed(missing))
    used = {role: nodes[role] for role in sorted(rolesUsed(card, nodes))}
    return _wrongVolume(used) or _unusable(used, findings) or _wrongWindow(window)


def _nothingFits(name: str, card: ModelCard | None, nodes: Mapping[str, Any]) -> str:
    if name != AUTOMATIC and card is None:
        return _("The model '{name}' is not at hand here. Choose another one.").format(name=name)
    if not nodes:
        return _("Nothing is chosen yet. Load files, or choose the volumes under Input.")
    return _("No model works with {given} alone. Choose a DWI and an ADC map.").format(given=listed(nodes))


def _wrongVolume(used: Mapping[str, Any]) -> str:
    seen: dict[str, str] = {}
    for role, node in used.items():
        if isOurs(node):
            text = _("{role}: '{name}' is a result, not a scan. Choose a scan.")
            return text.format(role=listed([role]), name=node.GetName())
        if node.GetID() in seen:
            text = _("The same volume is chosen for {roles}. Choose another one for one of them.")
            return text.format(roles=listed((seen[node.GetID()], role)))
        seen[node.GetID()] = role
    return ""


def _unusable(used: Mapping[str, Any], findings: Mapping[str, tuple[str, str]]) -> str:
    for role in used:
        severity, sentences = findings.get(role, ("", ""))
        if severity == "error":
            return f"{listed([role])}: {sentences}"
    return ""


def _wrongWindow(window: tuple[int, int, int]) -> str:
    if any(window) and not all(window):
        return _("Of the window only some numbers are given. Give all three, or none.")
    return ""


def listed(roles: Iterable[str]) -> str:
    """Roles for people."""
    return ", ".join(role.upper() if role != "b0" else role for role in roles)
