"""A model's card in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from slicer.i18n import tr as _

from strokeseg.models import ModelCard

from .model_choice import listed


def summary(card: ModelCard) -> str:
    """HTML for the section Model: what it takes, how large it is, what was measured, where its limits are."""
    megabytes = sum(file.size_bytes for file in card.files) / 2**20
    needs = _("Needs {roles}.").format(roles=listed(card.required_roles))
    if card.optional_roles:
        needs += " " + _("May use {roles}.").format(roles=listed(card.optional_roles))
    about = f"{_status(card)} " + (_("{size:.1f} MB.").format(size=megabytes) if megabytes else _("No weights."))
    lines = [f"{needs} {about}"]
    lines += [_("Measured: {result}.").format(result=_pairs(entry)) for entry in card.measured]
    if not card.measured:
        lines.append(_("No result was measured yet."))
    return _lines([*lines, *(_("Limit: {text}").format(text=text) for text in card.limits)])


def full(card: ModelCard) -> str:
    """HTML for the section About: what the section Model does not say."""
    rows = {
        _("Name"): f"{card.name} {card.version}",
        _("Title"): card.title,
        _("Finds"): card.task,
        _("Intended use"): card.intended_use,
        _("Network"): card.network,
        _("Runs in"): _runtime(card),
        _("Threshold"): _decision(card),
        _("Smallest lesion"): f"{card.minimum_lesion_ml:g} ml",
    }
    known = {"recipe": _("Recipe"), "data": _("Data"), "licence": _("Licence"), "license": _("Licence")}
    for name, value in card.origin.items():
        title = known.get(name, name.replace("_", " ").capitalize())
        rows[title] = _plain(value).replace(": ", ", ")
    lines = [f"{name}: {value}" for name, value in rows.items()]
    return _lines([*lines, _("What it takes, what was measured and its limits: see the section Model.")])


def _runtime(card: ModelCard) -> str:
    names = {"openvino": "OpenVINO", "torch": "PyTorch", "threshold": _("StrokeSeg itself, a rule without network")}
    # Older cards give no reason.
    return f"{names[card.runtime]}. {card.runtime_reason}" if card.runtime_reason else names[card.runtime]


def _decision(card: ModelCard) -> str:
    decision = card.decision
    if decision.rule == "argmax":
        return _("none, the most probable class")
    # Of a cascade the highest first: the case decides which one is taken.
    text = ", ".join(f"{value:g}" for value in (*(step.threshold for step in decision.steps), decision.threshold))
    if decision.peak:
        text += _("; somewhere in a lesion {peak:g}").format(peak=decision.peak)
    return text


def _status(card: ModelCard) -> str:
    texts = {"default": _("The usual choice."), "experimental": _("Experimental."), "baseline": _("A baseline.")}
    return texts.get(card.status, "")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_pairs(value)})"
    if isinstance(value, list | tuple):
        return " ".join(_plain(v) for v in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _lines(texts: list[str]) -> str:
    return "<br>".join(escape(text) for text in texts)
