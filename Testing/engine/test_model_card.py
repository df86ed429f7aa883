"""A model's card: the bundled one is read whole, and every wrong field is refused by its name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strokeseg.errors import ModelError
from strokeseg.models import parse_card, read_card
from strokeseg.models.channels import CHANNEL_ROLES
from strokeseg.models.decision import Decision
from strokeseg.prepare.channels import CHANNELS, ModelSpace
from strokeseg.symmetry import Midplane
from strokeseg.volume.grid import Grid

BUNDLED = Path(__file__).parents[2] / "Resources" / "Models" / "adc-threshold"
MISSING = object()


def card_data() -> dict[str, Any]:
    """A card with every field and the least content."""
    return {
        "format": 1,
        "name": "tiny",
        "title": "A tiny model",
        "version": "1.0.0",
        "status": "experimental",
        "task": "acute ischaemic lesion",
        "inputs": [{"role": "dwi", "required": True}, {"role": "adc", "required": False}],
        "reference_role": "dwi",
        "preparation": {"spacing_mm": [2, 2.0, 2], "margin_voxels": 4, "multiple": 16, "channels": ["dwi_ratio"]},
        "network": "tiny",
        "network_arguments": {"width": 8},
        "runtime": "torch",
        "strategy": "whole",
        "classes": [
            {
                "value": 1,
                "name": "lesion",
                "coding_scheme": "SCT",
                "code": "55641003",
                "meaning": "Infarct",
                "colour": [220, 50, 47],
            }
        ],
        "decision": {"rule": "threshold", "threshold": 0.4},
        "temperature": 1.5,
        "minimum_lesion_ml": 0.02,
        "files": [{"name": "weights.safetensors", "sha256": "0" * 64, "size_bytes": 12}],
        "origin": {"licence": "Apache-2.0"},
        "measured": [{"dice": 0.5}],
        "intended_use": "Research only.",
        "limits": ["Small."],
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """The card's data with one field set, or taken away for `MISSING`; list places are numbers."""
    data = copy.deepcopy(card_data())
    *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place: Any = data
    for step in way:
        place = place[step]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return data


def refusal(data: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        parse_card(data)
    assert caught.value.exit_code == 4
    assert caught.value.next_step
    return caught.value


def test_a_whole_card_becomes_typed_values() -> None:
    card = parse_card(card_data())
    assert card.name == "tiny"
    assert (card.required_roles, card.optional_roles) == (("dwi",), ("adc",))
    assert card.preparation.spacing_mm == (2.0, 2.0, 2.0)
    assert card.preparation.multiple == 16
    assert card.classes[0].colour == (220, 50, 47)
    assert (card.decision.rule, card.decision.threshold) == ("threshold", 0.4)
    assert (card.temperature, card.minimum_lesion_ml) == (1.5, 0.02)
    assert card.files[0].size_bytes == 12
    assert card.limits == ("Small.",)


def test_optional_fields_have_defaults() -> None:
    data = card_data()
    for field in ("status", "network_arguments", "temperature"):
        del data[field]
    del data["decision"]["threshold"]
    card = parse_card(data)
    assert (card.status, card.network_arguments, card.temperature) == ("experimental", {}, 1.0)
    assert (card.decision.threshold, card.decision.peak) == (0.5, 0.0)
    assert parse_card(changed("preparation.spacing_mm", [])).preparation.spacing_mm is None


def test_a_peak_is_at_least_the_threshold_and_belongs_to_it() -> None:
    assert parse_card(changed("decision.peak", 0.95)).decision == Decision("threshold", 0.4, (), 0.95)
    assert parse_card(changed("decision.peak", 0.4)).decision.peak == 0.4
    for wrong, said in ((0.3, "the threshold, 0.4, to 1"), (1.1, "a number from 0 to 1")):
        with pytest.raises(ModelError, match=r"Field 'decision\.peak'") as caught:
            parse_card(changed("decision.peak", wrong))
        assert said in str(caught.value)
    data = card_data()
    data["decision"] = {"rule": "argmax", "peak": 0.9}
    with pytest.raises(ModelError, match="peak"):
        parse_card(data)


def test_the_bundled_card_is_the_threshold_rule() -> None:
    card = read_card(BUNDLED)
    assert card.name == BUNDLED.name == "adc-threshold"
    assert card.folder == BUNDLED
    assert (card.status, card.runtime, card.strategy) == ("baseline", "threshold", "whole")
    assert (card.required_roles, card.optional_roles) == (("dwi", "adc"), ("b0",))
    assert (card.reference_role, card.decision.threshold, card.minimum_lesion_ml) == ("dwi", 0.5, 0.08)
    assert card.preparation.spacing_mm is None


REQUIRED = [
    "format", "name", "title", "version", "task", "inputs", "inputs.0.role", "inputs.0.required", "reference_role",
    "preparation", "preparation.margin_voxels", "preparation.multiple", "preparation.channels", "network", "runtime",
    "strategy", "classes", "classes.0.value", "classes.0.name", "classes.0.coding_scheme", "classes.0.code",
    "classes.0.meaning", "classes.0.colour", "decision", "decision.rule", "minimum_lesion_ml", "files",
    "files.0.name", "files.0.sha256", "files.0.size_bytes", "origin", "measured", "intended_use", "limits",
]  # fmt: skip


def shown(path: str) -> str:
    """`classes.0.name` as messages write it: `classes[0].name`."""
    parts = path.split(".")
    return "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in parts).lstrip(".")


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_field_is_named(path: str) -> None:
    error = refusal(changed(path, MISSING))
    assert f"Field '{shown(path)}'" in error.cause
    assert "the field is missing" in error.cause


WRONG: list[tuple[str, Any, str]] = [
    # wrong type
    *((f, 5, "a text") for f in ("name", "title", "version", "task", "network", "intended_use")),
    *((f, "  ", "a text that is not empty") for f in ("title", "version", "task", "network", "intended_use")),
    *((f, {}, "a list") for f in ("inputs", "classes", "files", "measured", "limits", "preparation.channels")),
    *((f, [], "an object") for f in ("preparation", "decision", "origin", "network_arguments", "classes.0")),
    ("inputs.0", "dwi", "an object"),
    ("files.0", "weights", "an object"),
    ("measured.0", 0.5, "a list of objects"),
    ("limits", ["good", 3], "a list of texts"),
    ("preparation.channels", ["adc", None], "a list of texts"),
    # one of several
    ("status", "great", "'default', 'experimental', 'baseline'"),
    ("status", ["default"], "one of"),
    ("runtime", "tensorflow", "'threshold', 'openvino', 'torch'"),
    ("strategy", "hole", "'whole', 'windows', 'slices', 'proposals'"),
    ("decision.rule", "highest", "'threshold', 'argmax', 'cascade'"),
    ("inputs.0.role", "DWI", "'dwi', 'adc', 't1', 'flair', 'b0'"),
    ("reference_role", "pet", "'dwi', 'adc', 't1', 'flair', 'b0'"),
    # names
    *(("name", n, "lower-case letters") for n in ("Tiny", "ti ny", "../tiny", "tiny-", ".tiny", "tïny", "a" * 65)),
    *(("name", n, "lower-case letters") for n in ("tiny.", "tiny ", " tiny", "tiny_", "nul.", "con ", "NUL")),
    *(("name", n, "Windows") for n in ("con", "prn", "aux", "nul", "com1", "com9", "lpt1", "nul.v2", "aux.tar.gz")),
    ("files.0.sha256", "0" * 63, "64 hexadecimal digits"),
    ("files.0.sha256", "G" * 64, "64 hexadecimal digits"),
    *(
        ("files.0.name", n, "the plain name of a file")
        for n in ("../../x", "a/b", "a\\b", "..", ".hidden", "C:weights", "wei ghts", "w" * 200, "gewïcht")
    ),
    # numbers
    ("temperature", 0.0, "a number from 0.05 to 20"),
    ("temperature", -1.0, "a number from 0.05 to 20"),
    ("temperature", "1", "a number from 0.05 to 20"),
    ("temperature", None, "a number from 0.05 to 20"),
    ("decision.threshold", 1.01, "a number from 0 to 1"),
    ("decision.threshold", -0.01, "a number from 0 to 1"),
    ("minimum_lesion_ml", -0.1, "a number from 0 to 100"),
    ("minimum_lesion_ml", 101, "a number from 0 to 100"),
    ("preparation.margin_voxels", 65, "a number from 0 to 64"),
    ("preparation.margin_voxels", 1.5, "a whole number"),
    ("preparation.multiple", 0, "a number from 1 to 128"),
    ("preparation.multiple", 10**400, "a number from 1 to 128"),
    ("preparation.multiple", 10**5000, "a number from 1 to 128"),
    ("files.0.size_bytes", -1, "a number from 0"),
    ("classes.0.value", 0, "a number from 1 to 255"),
    ("classes.0.value", 256, "a number from 1 to 255"),
    ("format", 0, "a number from 1"),
    ("format", 1.5, "a whole number"),
    *((f, float(n), "a number") for f in ("temperature", "decision.threshold", "format") for n in ("nan", "inf")),
    # true is no number, 1 is not true
    *((f, True, "a number") for f in ("format", "temperature", "minimum_lesion_ml", "preparation.multiple")),
    ("classes.0.value", True, "a number"),
    ("classes.0.colour", [True, 0, 0], "three whole numbers from 0 to 255"),
    ("inputs.0.required", 1, "true or false"),
    ("inputs.0.required", "yes", "true or false"),
    # lists of numbers
    *(
        ("classes.0.colour", c, "three whole numbers from 0 to 255")
        for c in ([0, 0], [0, 0, 256], [0, 0, 0.5], ["0", 0, 0], [-1, 0, 0])
    ),
    *(
        ("preparation.spacing_mm", s, "three numbers from 0.2 to 10")
        for s in ([2], [2, 2], [2, 2, 2, 2], [2, 2, "2"], [0.1, 2, 2], [2, 2, 11], [True, 2, 2], [float("nan"), 2, 2])
    ),
    ("preparation.channels", [], "at least one channel"),
    *(("preparation.channels", ["dwi_ratio", c], "channels that this version can make") for c in ("flair", "DWI")),
    ("preparation.channels", ["b0_ratio"], "'b0' among the required inputs"),  # no input at all
    ("preparation.channels", ["dwi_ratio", "adc"], "'adc' among the required inputs"),  # an optional one
    ("inputs", [], "at least one entry"),
    ("classes", [], "at least one entry"),
    # numbers in free objects must be numbers that JSON can hold
    ("network_arguments", {"width": float("nan")}, "finite numbers"),
    ("origin", {"deep": {"er": [float("inf")]}}, "finite numbers"),
    ("measured", [{"dice": float("nan")}], "finite numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)])
def test_a_wrong_field_is_named_with_what_was_expected(path: str, value: Any, expected: str) -> None:
    error = refusal(changed(path, value))
    named = shown(path).removesuffix("[0]") if path == "measured.0" else shown(path)
    assert f"Field '{named}'" in error.cause
    assert expected in error.cause.partition(": expected ")[2].rpartition(", found ")[0]
    assert error.title == ("The card of the model '?' is not valid." if path == "name" else refused_title())


def refused_title() -> str:
    return "The card of the model 'tiny' is not valid."


@pytest.mark.parametrize("where", ["", "preparation", "decision", "inputs.0", "classes.0", "files.0"])
def test_an_unknown_field_is_refused_wherever_it_stands(where: str) -> None:
    error = refusal(changed(".".join(p for p in (where, "zebra") if p), 1))
    name = f"{shown(where)}.zebra".lstrip(".") if where else "zebra"
    assert f"Field '{name}': expected no field of this name, found 1." in error.cause


def test_a_misspelt_optional_field_brings_the_right_name() -> None:
    error = refusal(changed("decision.treshold", 0.3))
    assert "did you mean 'threshold'" in error.cause


def test_a_misspelt_required_field_is_pointed_at() -> None:
    data = changed("minimum_lesion_ml", MISSING)
    data["min_lesion_ml"] = 0.1
    cause = refusal(data).cause
    assert "Field 'minimum_lesion_ml'" in cause
    assert "did you write 'min_lesion_ml'?" in cause


@pytest.mark.parametrize("name", ["console", "nul-2", "com", "com10", "auxiliary", "my.nul", "lpt"])
def test_names_that_only_resemble_devices_are_taken(name: str) -> None:
    assert parse_card(changed("name", name)).name == name


def test_a_rule_may_use_an_image_that_need_not_be_there_and_every_model_the_brain() -> None:
    rule = changed("preparation.channels", ["dwi_ratio", "adc", "height", "brain"])
    assert parse_card({**rule, "runtime": "threshold"}).optional_roles == ("adc",)
    network = changed("preparation.channels", ["dwi_ratio", "height", "brain", "edge_distance_mm"])
    assert len(parse_card(network).preparation.channels) == 4


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_is_made_of_the_image_that_cards_must_require_for_it(name: str) -> None:
    assert set(CHANNELS) == set(CHANNEL_ROLES)
    ones = np.ones((4, 4, 4), dtype=np.float32)

    def space(*roles: str) -> ModelSpace:
        return ModelSpace(
            Grid((4, 4, 4), np.eye(4)),
            dict.fromkeys(roles, ones),
            ones > 0,
            Midplane((1.0, 0.0, 0.0), 1.5, 1.0, "by hand"),
        )

    role = CHANNEL_ROLES[name]
    assert np.isfinite(space(*([role] if role else [])).channel(name)).all()
    without = space(*({"dwi", "adc", "b0"} - {role}))
    if role == "b0":
        assert np.isnan(without.channel(name)).all()
    elif role is not None:
        with pytest.raises(ModelError, match=f"'{role}'"):
            without.channel(name)


def test_a_newer_format_is_told_before_anything_else_is_looked_at() -> None:
    error = refusal({"format": 2, "name": "tiny", "everything": "else"})
    assert error.title == "The model 'tiny' was made for a newer StrokeSeg."
    assert "format 2" in error.cause
    assert "format 1" in error.cause
    assert "Update" in error.next_step


def second_class(value: int) -> dict[str, Any]:
    return {**card_data()["classes"][0], "value": value, "name": "old lesion"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"inputs": [{"role": "dwi", "required": True}] * 2}, "inputs"),
        ({"reference_role": "adc"}, "reference_role"),  # optional only
        ({"reference_role": "t1"}, "reference_role"),  # no input at all
        ({"classes": [*card_data()["classes"], second_class(3)], "decision": {"rule": "argmax"}}, "classes"),
        ({"classes": [*card_data()["classes"], second_class(1)], "decision": {"rule": "argmax"}}, "classes"),
        ({"classes": [second_class(2), *card_data()["classes"]], "decision": {"rule": "argmax"}}, "classes"),
        ({"classes": [*card_data()["classes"], second_class(2)]}, "decision.rule"),
        ({"files": card_data()["files"] * 2}, "files"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(change: dict[str, Any], field: str) -> None:
    assert f"Field '{field}'" in refusal({**card_data(), **change}).cause


@pytest.mark.parametrize("data", [None, [], "card", 3, True, [card_data()]])
def test_a_card_that_is_no_object_is_refused(data: Any) -> None:
    assert "The card: expected an object with named fields" in refusal(data).cause


# --- text and files


@pytest.mark.parametrize("character", ["\ud800", "\n", "\r", "\x00", "\x1b", "\x85", "\u2028"])
@pytest.mark.parametrize("field", ["title", "classes.0.meaning", "limits.0"])
def test_texts_that_cannot_be_printed_in_one_line_are_refused(field: str, character: str) -> None:
    error = refusal(changed(field, f"a{character}b"))
    assert f"Field '{shown(field).removesuffix('[0]')}'" in error.cause
    str(error).encode("utf-8")
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("text", ["脳梗塞モデル", "Läsion µ²", "سكتة", "🧠", "e\u0301"])
def test_texts_of_all_scripts_are_kept(text: str) -> None:
    assert parse_card(changed("title", text)).title == text


@pytest.mark.parametrize("name", ["\ud800", "a\nb", "x" * 10_000], ids=["surrogate", "line break", "long"])
def test_strange_names_do_not_get_into_the_message_unescaped(name: str) -> None:
    for data in (changed("name", name), {**card_data(), name: 1}):
        message = str(refusal(data))
        message.encode("utf-8")
        assert "\n" not in message
        assert len(message) < 600


def written(folder: Path, content: bytes) -> Path:
    (folder / "card.json").write_bytes(content)
    return folder


def test_a_card_is_read_from_a_path_with_strange_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Modèle 模型"
    folder.mkdir()
    card = read_card(written(folder, json.dumps(card_data()).encode()))
    assert card.folder == folder


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1 column 1"),
        (b"{", "line 1"),
        (b'{"format": 1,}', "line 1"),
        (b"\xff\xfe{\x00}\x00", "UnicodeDecodeError"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"format": 1, "name": "a", "name": "b"}', "the field 'name' stands there twice"),
        (b'{"format": 1, "decision": {"rule": "x", "rule": "x"}}', "the field 'rule' stands there twice"),
    ],
    ids=["empty", "unfinished", "trailing comma", "UTF-16", "deep", "repeated", "repeated within"],
)
def test_a_file_that_is_no_json_is_refused_with_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_card(written(tmp_path, content))
    assert "cannot be read" in caught.value.title
    assert said in caught.value.cause


def test_nan_in_the_file_is_refused_by_its_field(tmp_path: Path) -> None:
    text = json.dumps(changed("temperature", float("nan")))
    assert "NaN" in text
    with pytest.raises(ModelError, match="Field 'temperature'"):
        read_card(written(tmp_path, text.encode()))


def test_a_folder_without_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no card\.json"):
        read_card(tmp_path)


def test_a_card_that_is_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "card.json").mkdir()
    with pytest.raises(ModelError, match="cannot be opened"):
        read_card(tmp_path)


def test_an_argument_nested_without_end_is_refused(tmp_path: Path) -> None:
    deep = json.dumps(card_data()).replace('{"width": 8}', '{"a":' * 400 + "1" + "}" * 400)
    with pytest.raises(ModelError, match="Field 'network_arguments'"):
        read_card(written(tmp_path, deep.encode()))
