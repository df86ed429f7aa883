"""Tests never see the models and caches of whoever runs them, nor do the processes that they start; `one_thread`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch with one thread for the tests of a file: small networks are faster, and the same on every computer."""
    torch = pytest.importorskip("torch", reason="these tests compute with torch, which is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
