"""How the command line begins and ends: threads of numpy's matrices, and exit codes."""

import os
import subprocess
import sys

import pytest

from strokeseg import __version__

ASKED = """
import os, sys
from strokeseg import __main__, cli
cli.main = lambda: print(os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)
sys.argv = ["strokeseg", "version"]
__main__.main()
"""


def run(*command, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env={**kept, **environment}
    )


@pytest.mark.parametrize(("environment", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_matrices_take_one_thread_or_the_users_number_from_before_numpy_is_loaded(environment, threads):
    assert run("-c", ASKED, **environment).stdout.split() == [threads, "False"]


def test_what_was_printed_is_whole_and_the_exit_code_is_the_commands():
    done = run("-m", "strokeseg", "version")
    assert (done.stdout, done.stderr, done.returncode) == (f"{__version__}\n", "", 0)
    done = run("-m", "strokeseg", "segment", "--dwi", "nothing.nii", "--format", "json")
    assert done.stdout.endswith("}\n")
    assert '"exit_code": 3' in done.stdout
    assert done.returncode == 3
    assert run("-m", "strokeseg", "nonsense").returncode == 2


def test_an_error_that_nobody_foresaw_still_shows_its_traceback():
    code = "import sys; from strokeseg import cli; cli.app = lambda: 1 / 0; sys.argv = ['strokeseg']; cli.main()"
    done = run("-c", code)
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1
