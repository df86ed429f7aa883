"""The report: one HTML page that carries everything with it, without scripts and without a link to anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, UndefinedError

from strokeseg.errors import InputError
from strokeseg.report.evaluation import metric_rows
from strokeseg.report.figures import count, intensity, millilitres, number, product

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    summary: Mapping[str, Any],
    lesions: Sequence[Mapping[str, Any]],
    *,
    overlay_png: bytes | None,
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """The page for people who read one result.

    Args:
        summary: Content of summary.json. `model`, `result` and `strokeseg_version` must be there; sections that are
            absent are left out of the page.
        lesions: One row a lesion with the fields of the lesion table; values may be None.
        overlay_png: The overlay picture, embedded; None: the page says that there is none.
        metrics: Figures of the evaluation against a reference; None as a value means "not defined".

    Returns:
        HTML5, to be written as UTF-8.

    Raises:
        InputError: The summary or a row lacks a field that the report cannot do without.
    """
    try:
        return _template().render(
            summary=summary,
            lesions=lesions,
            overlay=None if overlay_png is None else base64.b64encode(overlay_png).decode("ascii"),
            metrics=metrics,
            metric_groups=metric_rows(metrics) if metrics is not None else {},
            picture_text=describe_picture(summary),
            hints=any(row.get("hint") for row in lesions),
        )
    except (UndefinedError, KeyError) as error:
        raise InputError(
            "The report cannot be written.",
            f"The summary of the result is incomplete: {error}.",
            "Run the segmentation again and make the report from the new result.",
        ) from error


def pages_of(templates: Path) -> Environment:
    """The templates of a folder: what is filled in is escaped, and what is missing is an error."""
    return Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    """Compiled once: that takes longer than filling it in."""
    environment = pages_of(_TEMPLATES)
    environment.filters.update(number=number, ml=millilitres, intensity=intensity, product=product, count=count)
    return environment.get_template("report.html.j2")


def title_lines(summary: Mapping[str, Any]) -> list[str]:
    """Header of the overlay picture: model and version, volume by side, what the images are.

    Args:
        summary: Content of summary.json.

    Raises:
        KeyError: `model`, `result` or `strokeseg_version` is not there.
    """
    model = summary["model"]
    lines = [
        f"{model['title']} ({model['name']} {model['version']}), StrokeSeg {summary['strokeseg_version']}",
        volume_sentence(summary),
    ]
    dwi = next((i for i in summary.get("inputs", []) if i["role"] == "dwi"), None)
    images = []
    if dwi is not None:
        b_value = dwi.get("b_value")
        images.append(f"DWI b = {b_value:.0f} s/mm²" if b_value is not None else "DWI, b-value not known")
    if any(i["role"] == "adc" for i in summary.get("inputs", [])) or "adc" in summary.get("computed", []):
        images.append("ADC in 10⁻³ mm²/s")
    return [*lines, ", ".join(images)] if images else lines


def volume_sentence(summary: Mapping[str, Any]) -> str:
    """Total volume, number and sides in one line, or that there is no lesion above the threshold."""
    result = summary["result"]
    if not result["lesion_count"]:
        return "No lesion above the threshold"
    sides = [
        f"{name} {millilitres(result[key])} ml"
        for name, key in (("left", "left_ml"), ("right", "right_ml"), ("midline", "midline_ml"))
        if result.get(key)
    ]
    number_of = count(result["lesion_count"], "lesion", "lesions")
    sentence = f"Lesion volume {millilitres(result['volume_ml'])} ml in {number_of}"
    return f"{sentence}: {', '.join(sides)}" if sides else sentence


def describe_picture(summary: Mapping[str, Any]) -> str:
    """The overlay in words, for those who hear the page."""
    return (
        "Axial slices of the brain from feet to head in radiological convention: the patient's right is on the left "
        f"of the picture. Lesions are outlined in orange. {volume_sentence(summary)}."
    )
