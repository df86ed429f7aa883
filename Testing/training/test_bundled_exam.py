"""The bundled networks take their exam again: the committed weights give what their cards say, here as elsewhere."""

import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from strokeseg.models import ModelStore
from strokeseg_training import cli_exam

THIRD_DECIMAL = 0.001


@pytest.mark.parametrize("model", ["dwi-adc", "t1"])
def test_the_exam_gives_what_the_card_says(model):
    card = ModelStore().card(model)
    (said,) = (m for m in card.measured if m["data"].startswith("exam "))
    app = Typer()
    cli_exam.register(app)
    done = CliRunner().invoke(app, ["exam", str(card.folder), "--format", "json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert said["data"].split(",")[0] == f"exam {result['exam']}"
    ill, empty = result["groups"]["with lesion"], result["empty"]
    found = {
        "cases_with_lesion": ill["cases"],
        "dice": ill["dice"],
        "lesion_f1": ill["lesion_f1"],
        "expected_calibration_error": result["ece"],
    }
    assert found == pytest.approx({key: said[key] for key in found}, abs=THIRD_DECIMAL)
    # Millilitres, and means over a dozen patients, of which another processor's rounding may turn a voxel or two.
    found = {
        "false_positive_ml": ill["false_positive_ml"],
        "false_positive_ml_without_lesion": empty["false_positive_ml"],
        **{
            f"{key}_{name}": result["groups"][name][key]
            for key in ("dice", "lesion_f1")
            for name in ("bilateral", "midline")
        },
    }
    assert found == pytest.approx({key: said[key] for key in found}, abs=5 * THIRD_DECIMAL)
