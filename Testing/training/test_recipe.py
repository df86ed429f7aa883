"""Recipes: read by name or file, changed by --set, and refused in words."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pydantic", reason="recipes need pydantic, which is not installed")
yaml = pytest.importorskip("yaml", reason="recipes need PyYAML, which is not installed")
pytest.importorskip("torch", reason="training needs torch, which is not installed")

from strokeseg.errors import InputError  # noqa: E402
from strokeseg.networks import build, form_of  # noqa: E402
from strokeseg_training.channels import CHANNELS  # noqa: E402
from strokeseg_training.fit.card import card_fields  # noqa: E402
from strokeseg_training.recipe import load_recipe, recipe_names, recipe_of  # noqa: E402

phantom = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("fit_phantom.py"))))


def recipe(**changes):
    return recipe_of(phantom.recipe_data(**changes), "test")


def refusal(**changes):
    with pytest.raises(InputError) as caught:
        recipe(**changes)
    return caught.value


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(phantom.recipe_data()))
    return path


# --- the recipes that come with the package


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_the_package_is_complete(name):
    found = load_recipe(name)
    assert found.name == name
    assert set(found.preparation.channels) <= set(CHANNELS)
    network = form_of(build(found.network.name, **found.network.arguments))
    assert network.in_channels == len(found.preparation.channels)
    sizes = found.card.input_shape or (found.preparation.multiple,) * 3
    assert all(size % multiple == 0 for size, multiple in zip(sizes, network.multiples, strict=True))
    assert card_fields(found, {})["name"] == name


def test_the_bundled_models_have_recipes():
    assert {"dwi-adc", "t1"} <= set(recipe_names())


def test_a_name_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="no recipe 'dwi_adc'") as caught:
        load_recipe("dwi_adc")
    assert caught.value.next_step == "Did you mean 'dwi-adc'?"


# --- reading


def test_a_recipe_says_all_of_itself_and_is_read_back_the_same(file, tmp_path):
    found = load_recipe(file)
    (tmp_path / "again.yaml").write_text(found.to_yaml())
    again = load_recipe(tmp_path / "again.yaml")
    assert again == found
    assert again.sha256 == found.sha256
    assert recipe(seed=4).sha256 != found.sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: [1", "YAML"),
        ("- 1", "a list"),
        ("seed: 1\nseed: 2", "'seed' stands there twice"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, words):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=r"'r\.yaml' cannot be read") as caught:
        load_recipe(tmp_path / "r.yaml")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="is no file"):
        load_recipe(tmp_path / "none.yaml")


# --- changes


def test_settings_change_keys_at_any_depth(file):
    found = load_recipe(
        file,
        ["optimiser.lr=1e-4", "stages.0.steps=11", "preparation.channels=[adc, dwi_ratio]", "card.version=9.1.0",
         "loss.tversky.false_negatives=0.4", "loss.tissue=0.3", "validation.every=0", "data.generator.seeds.to=50"],
    )  # fmt: skip
    assert found.optimiser.lr == 1e-4
    assert found.stages[0].steps == 11
    assert found.preparation.channels == ("adc", "dwi_ratio")
    assert found.loss.tversky.false_negatives == 0.4
    assert found.loss.tissue.weight == 0.3
    assert len(found.data.generator.seeds) == 49
    # Stages take what they do not change from the changed recipe.
    assert found.stages[1].loss.tissue.weight == 0.3
    assert found.stages[1].data.generator.seeds.end == 50


@pytest.mark.parametrize("setting", ["seed", "=1", "a..b=1", "stages.7.steps=1", "stages.x.steps=1", "seed=[1"])
def test_a_setting_that_is_none_is_refused(file, setting):
    with pytest.raises(InputError, match="setting"):
        load_recipe(file, [setting])


def test_a_setting_of_an_unknown_key_is_answered_with_the_right_one(file):
    with pytest.raises(InputError) as caught:
        load_recipe(file, ["optimiser.rl=1e-4"])
    assert "no key 'optimiser.rl'" in caught.value.cause
    assert "lr, weight_decay, betas" in caught.value.cause


# --- stages


def test_a_stage_changes_single_keys_and_keeps_the_rest():
    first, second = recipe().stages
    assert first.loss.weights == {"dice": 1.0, "bce": 1.0, "tissue": 0.2}
    assert second.loss.weights == {"dice": 1.0, "bce": 1.0, "tversky": 1.0, "small": 0.5, "tissue": 0.2}
    assert second.loss.tversky.false_positives == 0.7
    assert second.data == first.data


def test_a_stage_may_take_its_data_from_a_bank():
    found = recipe(stages=[{"steps": 2}, {"steps": 3, "data": {"bank": "folder"}}])
    assert found.stages[0].data.generator is not None
    assert (found.stages[1].data.generator, found.stages[1].data.bank) == (None, "folder")
    assert found.stages[1].data.workers == 0
    assert [found.stage_at(s) for s in (0, 1, 2, 4, 5)] == [0, 0, 1, 1, 1]
    assert found.steps == 5


def test_an_objective_takes_the_place_of_the_terms_and_is_read_back_the_same(tmp_path):
    found = recipe(objective={"name": "cce-dice"}, loss=None, stages=[{"steps": 2, "data": {"flips": False}}])
    assert found.objective.settings.weights == {"dice": 1.0, "entropy": 1.0}
    said = found.as_data()
    assert "loss" not in said
    assert "loss" not in said["stages"][0]
    (tmp_path / "r.yaml").write_text(found.to_yaml())
    assert load_recipe(tmp_path / "r.yaml") == found


def test_epochs_are_as_many_steps_as_show_every_sample_so_often():
    found = recipe(batch=4, accumulation=2, stages=[{"epochs": 3}, {"steps": 5}, {"epochs": 0.5}])
    assert found.steps == 5
    told = found.in_steps([25, 7, 100])
    # 75 samples and 50 samples, 8 a step.
    assert [s.steps for s in told.stages] == [10, 5, 7]
    assert told.steps == 22
    assert found.in_steps([25, 7, 100]).validation == found.validation


# --- the published systems


def test_lesion_net_has_its_published_settings():
    found = load_recipe("lesion-net")
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.weight_decay) == ("adam", 5e-5, 0)
    assert (found.batch, found.stages[0].epochs, found.schedule.rule, found.schedule.warm_up) == (
        32,
        300,
        "constant",
        0,
    )
    assert (found.objective.name, found.objective.arguments["double_sigmoid"]) == ("dice-bce", False)
    assert (found.augmentation, found.data.flips, found.precision, found.ema_decay) == (None, False, "fp32", 0)
    split = found.datasets.split
    assert (split.train, split.val, split.test, split.seed) == (0.75, 0.10, 0.15, 42)
    assert (found.validation.epochs, found.validation.side, found.validation.watch) == (1, "val", "dice")
    assert card_fields(found, {})["input_shape"] == [128, 128, 1]


@pytest.mark.parametrize("loss", ["cce", "dice", "cce-dice"])
@pytest.mark.parametrize(("name", "eps"), [("atlas-unet", 1e-8), ("atlas-segnet", 1e-8), ("atlas-resunet", 1e-7)])
def test_the_atlas_trio_has_its_published_settings_and_three_losses(name, eps, loss):
    found = load_recipe(name, [f"objective.name={loss}"])
    weights = {"cce": {"entropy": 1}, "dice": {"dice": 1}, "cce-dice": {"dice": 1, "entropy": 1}}[loss]
    assert found.objective.settings.weights == weights
    assert (found.optimiser.name, found.optimiser.lr, found.optimiser.eps) == ("adam", 1e-3, eps)
    assert (found.batch, found.stages[0].epochs, found.gradient_clip) == (32, 100, 0)
    varied = {n for n in ("rotation", "scale", "elastic", "gamma", "brightness") if getattr(found.augmentation, n)}
    assert len(varied) == 5
    assert found.augmentation.flips.x == 0.5
    assert [c.name for c in found.datasets.classes] == ["main lesion", "sub-lesion"]
    assert card_fields(found, {})["input_shape"] == [192, 224, 1]


def test_real_patients_are_added_to_the_data_of_the_bundled_model():
    found, bundled = load_recipe("dwi-adc-finetune"), load_recipe("dwi-adc")
    assert (found.init_from, found.network, found.preparation) == ("dwi-adc", bundled.network, bundled.preparation)
    assert found.data.real_share == 0.5
    # Other synthetic patients than those that the bundled model knows.
    assert found.data.generator.seeds.first >= bundled.data.generator.seeds.end
    assert found.card.classes == bundled.card.classes


# --- refusals


@pytest.mark.parametrize(
    ("changes", "key", "advice"),
    [
        ({"optimizer": {}}, "'optimizer'", "'optimiser'"),
        ({"data": {"generator": {"task": "t1", "sedes": 1, "seeds": {"from": 0, "to": 1}}}}, "'data.generator.sedes'",
         "'data.generator.seeds'"),
        ({"stages": [{"steps": 1, "loss": {"tverski": 1}}]}, "'stages.0.loss.tverski'", "'stages.0.loss.tversky'"),
        ({"lr": 1}, "'lr'", "'optimiser.lr'"),
        ({"loss": {"small": {"smallest": 1}}}, "'loss.small.smallest'", "'loss.small.smallest_ml'"),
        ({"augmentation": {"rotations": {}}}, "'augmentation.rotations'", "'augmentation.rotation'"),
        ({"datasets": {"layout": "isles22", "classes": [{"name": "a"}], "slice": {}}}, "'datasets.slice'",
         "'datasets.slices'"),
        ({"patience": 3}, "'patience'", "'schedule.patience'"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_the_nearest_right_one(changes, key, advice):
    error = refusal(**changes)
    assert f"There is no key {key}" in error.cause
    assert error.next_step == f"Did you mean {advice}?"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": {"lr": -1}}, ("'optimiser.lr'", "greater than 0", "-1")),
        ({"precision": "fp8"}, ("'precision'", "'fp32', 'bf16' or 'fp16'", "'fp8'")),
        ({"preparation": {"spacing_mm": [2, 2], "channels": ["adc"]}}, ("'preparation.spacing_mm.2'", "missing")),
        ({"data": {"flips": True}}, ("'data'", "exactly one of 'generator' and 'bank'")),
        ({"data": {"bank": "b", "generator": {"task": "t1", "seeds": {"from": 0, "to": 1}}}}, ("exactly one",)),
        (
            {"data": {"generator": {"task": "t1", "seeds": {"from": 5, "to": 5}}}},
            ("'to' (5) must be above 'from' (5)",),
        ),
        ({"validation": {"every": 5}}, ("'validation'", "one of 'seeds', 'bank' and 'exam'")),
        ({"stages": []}, ("'stages'", "at least 1 item")),
        ({"stages": [{"steps": 1, "epochs": 1}]}, ("'stages.0'", "exactly one of 'steps' and 'epochs'")),
        ({"stages": [{}]}, ("'stages.0'", "exactly one of 'steps' and 'epochs'")),
        ({"data": {"bank": "b", "prepared": "p"}}, ("'data'", "'real_share' must say")),
        ({"data": {"prepared": "p", "real_share": 0.5}}, ("'data'", "'real_share' needs 'prepared' and one of")),
        ({"validation": {"every": 0, "patience": 2}}, ("'validation'", "'patience' needs validations")),
        (
            {"objective": {"name": "dise"}, "loss": None, "stages": [{"steps": 1}]},
            ("'objective'", "Did you mean 'dice'?"),
        ),
        (
            {"objective": {"name": "dice"}, "stages": [{"steps": 1}]},
            ("'loss' weighs terms", "'objective' names a published loss", "leave out one of the two"),
        ),
        (
            {"objective": {"name": "dice"}, "loss": None, "stages": [{"steps": 1, "loss": {"dice": 2}}]},
            ("'stages.0.loss' weighs terms",),
        ),
        ({"name": "No Name"}, ("'name'", "No Name")),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found(changes, words):
    text = refusal(**changes).cause
    for word in words:
        assert word in text


def test_a_missing_key_is_named():
    data = phantom.recipe_data()
    del data["network"]
    with pytest.raises(InputError, match="'network' is missing"):
        recipe_of(data, "test")


def test_a_card_that_the_engine_would_refuse_is_refused_before_training():
    card = {**phantom.recipe_data()["card"], "reference_role": "t1"}
    with pytest.raises(InputError, match="model card") as caught:
        card_fields(recipe(card=card), {})
    assert "reference_role" in caught.value.cause
