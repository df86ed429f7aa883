"""Tests never see the models and caches of whoever runs them, nor do the processes that they start."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

_VARIABLE = "STROKESEG_HOME"
_home = pytest.StashKey[tuple[str, str | None]]()


def pytest_configure(config: pytest.Config) -> None:
    # Before anything is collected: what is done while test files are imported shall not see them either.
    folder = tempfile.mkdtemp(prefix="strokeseg-home-of-tests-")
    config.stash[_home] = (folder, os.environ.get(_VARIABLE))
    os.environ[_VARIABLE] = folder


def pytest_unconfigure(config: pytest.Config) -> None:
    folder, before = config.stash[_home]
    if before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = before
    shutil.rmtree(folder, ignore_errors=True)
