"""The report page: what it says, what it does not load, what it does without."""

from __future__ import annotations

import base64
from copy import deepcopy
from html.parser import HTMLParser

import pytest

from strokeseg.errors import InputError
from strokeseg.report import render_page, title_lines
from strokeseg.report.figures import intensity, millilitres, number, product

SUMMARY = {
    "format": 1,
    "strokeseg_version": "0.1.0",
    "notice": "Research use only. Not a medical device.",
    "synthetic": False,
    "model": {
        "name": "adc-threshold",
        "title": "ADC threshold rule",
        "version": "1.0.0",
        "task": "acute",
        "threshold": 0.5,
        "minimum_lesion_ml": 0.08,
        "status": "",
    },
    "reference_role": "dwi",
    "grid": {"shape": [112, 112, 73], "spacing_mm": [2.0000001, 2.0, 1.9999], "orientation": "LAS"},
    "inputs": [
        {
            "role": "dwi",
            "used": True,
            "sha256": "0123456789abcdef" * 4,
            "shape": [112, 112, 73],
            "spacing_mm": [2, 2, 2],
            "b_value": 1000,
            "notes": ["The sform was taken."],
        },
        {
            "role": "flair",
            "used": False,
            "sha256": "",
            "shape": [512, 512, 29],
            "spacing_mm": [0.449219, 0.449219, 5],
            "b_value": None,
            "notes": [],
        },
    ],
    "assumptions": ["ADC is taken to be in 1e-3 mm²/s (median 0.8)."],
    "brain": {"method": "skull-stripped", "volume_ml": 1234.4, "findings": []},
    "midplane": {"normal_ras": [1, 0, 0], "offset_mm": 0.3, "quality": 0.9},
    "result": {"volume_ml": 12.34, "lesion_count": 2, "left_ml": 11.3, "right_ml": 1.04, "midline_ml": 0.0},
    "findings": [
        {
            "code": "adc-negative",
            "severity": "warning",
            "role": "adc",
            "message": "12 voxels are below 0.",
            "next_step": "They were set to 0.",
        }
    ],
    "warnings": [{"code": "baseline", "message": "The rule marks artefacts."}],
}
LESIONS = [
    {
        "label": 1,
        "volume_ml": 11.3,
        "voxels": 1412,
        "centroid_ras_mm": [-34.24, -12.4, 20.6],
        "side": "left",
        "extent_mm": [22.0, 18.0, 14.0],
        "adc_mean": 0.544,
        "adc_min": 0.31,
        "adc_below_062_ml": 9.87,
        "dwi_mean": 612.3,
        "probability_mean": 0.816,
        "hint": None,
    },
    {
        "label": 2,
        "volume_ml": 0.004,
        "voxels": 1,
        "centroid_ras_mm": [14.0, 0.2, -8.0],
        "side": "right",
        "extent_mm": [2.0, 2.0, 2.0],
        "adc_mean": None,
        "adc_min": None,
        "adc_below_062_ml": None,
        "dwi_mean": None,
        "probability_mean": None,
        "hint": "near the edge of the brain",
    },
]
METRICS = {"outcome": "both present", "dice": 0.5123, "specificity": 0.999871, "pr_auc": None, "hd95_mm": 22.44}
EMPTY = {"volume_ml": 0.0, "lesion_count": 0, "left_ml": 0.0, "right_ml": 0.0, "midline_ml": 0.0}
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags with attributes, text by section, and tables as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag not in {"span", "strong", "code"}:
            self.text += " "

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def row(self, first: str) -> list[str]:
        return next(r for r in self.rows if r and r[0] == first)


def summary(**changes) -> dict:
    return deepcopy(SUMMARY) | changes


def page(content=None, lesions=LESIONS, **options) -> Page:
    return Page(render_page(content or SUMMARY, lesions, **({"overlay_png": b"\x89PNG picture"} | options)))


def test_page_says_what_was_found_by_which_model():
    words = page().words
    assert "Research use only. Not a medical device." in words
    assert "ADC threshold rule · model adc-threshold, version 1.0.0 · StrokeSeg 0.1.0" in words
    assert "Lesion volume 12.3 ml Lesions 2 Patient's right 1.04 ml Patient's left 11.3 ml" in words
    assert "Across the midline" not in words
    assert "The rule marks artefacts." in words
    assert "Warning, ADC: 12 voxels are below 0. They were set to 0." in words
    assert "ADC is taken to be in 1e-3 mm²/s (median 0.8)." in words
    assert "Skull-stripped; 1234 ml." in words


def test_the_decision_is_said_with_its_peak_if_there_is_one():
    assert "Decision threshold 0.50; lesions below 0.08 ml are left out." in page().words
    model = {**summary()["model"], "threshold": 0.8, "peak": 0.95}
    said = "Decision threshold 0.80; lesions that reach 0.95 nowhere are left out; lesions below 0.08 ml are left out."
    assert said in page(summary(model=model)).words
    assert "nowhere" not in page(summary(model={**model, "peak": 0.0})).words


def test_lesion_table_has_units_and_few_digits():
    found = page()
    assert found.row("1") == [
        *("1", "11.30", "left", "−34", "−12", "+21", "22 × 18 × 14"),
        *("0.54", "0.31", "9.87", "612", "0.82", ""),
    ]
    assert found.row("2") == [
        *("2", "< 0.01", "right", "+14", "0", "−8", "2 × 2 × 2"),
        *("–", "–", "–", "–", "–", "near the edge of the brain"),
    ]


def test_no_lesion_is_said_plainly_and_does_not_exclude_a_stroke():
    found = page(summary(result=EMPTY), lesions=[])
    assert "No lesion above the threshold was found. This does not exclude a stroke." in found.words
    assert "Patient's right" not in found.words
    assert "Centroid" not in found.words


def test_inputs_are_named_by_role_and_hash_prefix():
    found = page()
    assert found.row("DWI") == [
        "DWI",
        "yes",
        "112 × 112 × 73",
        "2 × 2 × 2",
        "1000",
        "0123456789ab",
        "The sform was taken.",
    ]
    assert found.row("FLAIR") == ["FLAIR", "no", "512 × 512 × 29", "0.45 × 0.45 × 5", "–", "–", ""]
    assert "grid of the DWI: 112 × 112 × 73 voxels of 2 × 2 × 2 mm, orientation LAS" in found.words


def test_synthetic_patient_is_announced_only_when_it_is_one():
    assert "Synthetic patient. This is not a real scan." in page(summary(synthetic=True)).words
    assert "Synthetic" not in page().words


def test_picture_is_inside_the_page_with_words_for_those_who_do_not_see_it():
    (image,) = [attributes for tag, attributes in page().tags if tag == "img"]
    head, data = image["src"].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == b"\x89PNG picture"
    assert "the patient's right is on the left of the picture" in image["alt"]
    assert "12.3 ml in 2 lesions: left 11.3 ml, right 1.04 ml" in image["alt"]
    without = page(overlay_png=None)
    assert "There is no picture with this result." in without.words
    assert not [tag for tag, _ in without.tags if tag == "img"]


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs():
    html = render_page(SUMMARY, LESIONS, overlay_png=b"x", metrics=METRICS)
    for tag, attributes in Page(html).tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        assert not [name for name in attributes if name.startswith("on")]
        assert all((attributes.get(name) or "data:").startswith("data:") for name in ("src", "href", "srcset"))
    assert "url(" not in html
    assert "@import" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html


def test_page_is_accessible_and_made_for_dark_screens_and_paper():
    html = render_page(SUMMARY, LESIONS, overlay_png=b"x", metrics=METRICS)
    tags = Page(html).tags
    assert ("html", {"lang": "en"}) in tags
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
    assert "<title>StrokeSeg report</title>" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert "size: A4" in html


def test_every_text_is_escaped():
    evil = "<script>alert(1)</script>"
    bad = summary(assumptions=[evil], warnings=[{"code": "x", "message": evil}], strokeseg_version=evil)
    bad["model"] |= {"title": evil, "name": '"><img src=x onerror=alert(1)>', "status": evil}
    bad["inputs"][0] |= {"role": evil, "notes": [evil], "sha256": evil}
    bad["findings"][0] |= {"severity": '"onclick="', "message": evil, "next_step": evil, "role": evil}
    bad["brain"] |= {"method": evil, "findings": [evil]}
    lesions = [LESIONS[0] | {"side": evil, "hint": evil}]
    metrics = METRICS | {"outcome": evil, "dice": None}
    html = render_page(bad, lesions, overlay_png=b"x", metrics=metrics)
    assert "<script" not in html
    found = Page(html)
    assert [tag for tag, _ in found.tags].count("img") == 1
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]


def test_evaluation_is_shown_with_units():
    found = page(metrics=METRICS)
    assert found.row("Dice")[1] == "0.512"
    assert found.row("Specificity")[1] == "0.99987"
    assert found.row("HD95")[1] == "22.4 mm"
    assert found.row("PR-AUC")[1:] == ["not defined", "no probability map was given"]
    assert "Evaluation" not in page().words


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("reference empty", "the reference has no lesion"),
        ("prediction empty", "nothing was predicted"),
        ("both empty", "neither the reference nor the prediction has a lesion"),
        ("both present", "it divides by zero here"),
    ],
)
def test_undefined_figure_is_called_so_with_the_reason(outcome, reason):
    assert page(metrics={"outcome": outcome, "dice": None}).row("Dice")[1:] == ["not defined", reason]


def test_volume_difference_keeps_its_sign():
    metrics = {"outcome": "both present", "volume_difference_ml": -1.584, "avd_ml": 1.584, "lesion_false_positives": 8}
    found = page(metrics=metrics)
    assert found.row("Difference")[1] == "−1.58 ml"
    assert found.row("Absolute difference")[1] == "1.58 ml"
    assert found.row("False lesions")[1] == "8"


def test_optional_sections_may_be_absent():
    required = {key: SUMMARY[key] for key in ("strokeseg_version", "model", "result")}
    required["model"] = {key: SUMMARY["model"][key] for key in ("name", "title", "version")}
    words = page(required, lesions=[]).words
    assert "12.3 ml" in words
    assert "Inputs" not in words
    assert "The checks of the inputs found nothing to report." in words


@pytest.mark.parametrize(
    ("section", "key"), [("model", "title"), ("result", "volume_ml"), (None, "model"), (None, "strokeseg_version")]
)
def test_summary_without_a_needed_field_is_refused_by_its_name(section, key):
    broken = summary()
    del (broken if section is None else broken[section])[key]
    with pytest.raises(InputError, match=key) as caught:
        render_page(broken, LESIONS, overlay_png=None)
    assert caught.value.title == "The report cannot be written."


def test_same_input_gives_the_same_page():
    assert render_page(SUMMARY, LESIONS, overlay_png=b"x") == render_page(SUMMARY, LESIONS, overlay_png=b"x")


def test_title_of_the_picture_names_model_volume_and_images():
    assert title_lines(SUMMARY) == [
        "ADC threshold rule (adc-threshold 1.0.0), StrokeSeg 0.1.0",
        "Lesion volume 12.3 ml in 2 lesions: left 11.3 ml, right 1.04 ml",
        "DWI b = 1000 s/mm²",
    ]
    unknown = summary(result=EMPTY)
    unknown["inputs"] = [{"role": "dwi", "b_value": None}, {"role": "adc"}]
    assert title_lines(unknown)[1:] == [
        "No lesion above the threshold",
        "DWI, b-value not known, ADC in 10⁻³ mm²/s",
    ]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (millilitres(0.0), "0.00"),
        (millilitres(0.004), "< 0.01"),
        (millilitres(0.083), "0.08"),
        (millilitres(9.994), "9.99"),
        (millilitres(9.996), "10.0"),
        (millilitres(123.45), "123.5"),
        (millilitres(None), "–"),
        (number(-0.004, 2), "0.00"),
        (number(float("nan")), "–"),
        (number(1.5, 1, signed=True), "+1.5"),
        (number(-1.5, 1, signed=True), "−1.5"),
        (intensity(1512.4), "1512"),
        (intensity(15.24), "15.2"),
        (intensity(0.01234), "0.0123"),
        (intensity(0), "0"),
        (product([0.449219, 5.0], 2), "0.45 × 5"),
    ],
)
def test_numbers_have_sensible_digits(printed, expected):
    assert printed == expected
