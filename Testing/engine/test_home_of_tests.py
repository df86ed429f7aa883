"""Whoever runs the tests may have models of their own; no test sees them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from strokeseg.models import user_models_folder

ROOT = Path(__file__).resolve().parents[2]
INNER = """
import os, pathlib, subprocess, sys
from strokeseg.models import ModelStore
# While test files are collected, in a test, and in a process that a test starts.
SEEN = [ModelStore().names()]
def test_it():
    SEEN.append(ModelStore().names())
    code = "from strokeseg.models import ModelStore; print(ModelStore().names())"
    SEEN.append(eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout))
    pathlib.Path(os.environ["SEEN"]).write_text(repr((SEEN, os.environ["STROKESEG_HOME"])))
"""


def seen_by_tests(folder, *options):
    """Models that a test run sees whose user has the model 'mine', beside those of StrokeSeg; and its home."""
    environment = {**os.environ, "STROKESEG_HOME": str(folder / "home"), "SEEN": str(folder / "seen")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "StrokeSegExtension"), str(ROOT / "Testing")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *options]
    done = subprocess.run(
        [*command, "test_inner.py"], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names, home = ast.literal_eval((folder / "seen").read_text())
    ours = {card.parent.name for card in (ROOT / "Resources" / "Models").glob("*/card.json")}
    return [sorted(set(n) - ours) for n in names], Path(home)


def test_a_developers_own_models_are_never_seen(tmp_path):
    own = tmp_path / "home" / "models" / "mine"
    own.mkdir(parents=True)
    (own / "card.json").write_text("{}")
    (tmp_path / "test_inner.py").write_text(INNER)
    assert seen_by_tests(tmp_path) == ([["mine"]] * 3, tmp_path / "home")
    # What lies in Testing/conftest.py, for a test file that lies elsewhere.
    names, home = seen_by_tests(tmp_path, "-p", "conftest")
    assert names == [[]] * 3
    assert home != tmp_path / "home"
    assert not home.exists()  # deleted when the tests were done


def test_this_very_run_has_a_home_of_its_own():
    assert Path(os.environ["STROKESEG_HOME"]).name.startswith("strokeseg-home-of-tests-")
    assert user_models_folder().parent == Path(os.environ["STROKESEG_HOME"])
