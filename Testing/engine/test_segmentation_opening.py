"""The runtime opens while the scans are prepared, and nobody can tell: same errors, same order, no thread left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_brain import small_brain

from strokeseg import Case, segment
from strokeseg.errors import Cancelled, InputError, ModelError
from strokeseg.events import Monitor
from strokeseg.prepare import prepare
from strokeseg.runtime import Runtime, open_runtime
from strokeseg.segmentation import run
from strokeseg.volume import Volume

MODEL = "adc-threshold"
# Nothing here takes as long: a wait that lasts this long has failed.
LONG_S = 20.0
BROKEN = ModelError("The model is broken.", "A test says so.", "Mend it.")


@pytest.fixture(scope="module")
def case() -> Case:
    brain = small_brain()
    return Case({role: Volume(np.asarray(getattr(brain, role)), brain.affine) for role in ("dwi", "adc")})


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Any:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def opened_by(monkeypatch: pytest.MonkeyPatch, opening: Callable[[], Runtime | None]) -> None:
    """Let `opening` run before, or instead of, the runtime's own opening."""

    def instead(*arguments: Any, **options: Any) -> Runtime:
        return opening() or open_runtime(*arguments, **options)

    monkeypatch.setattr(run, "open_runtime", instead)


def prepared_by(monkeypatch: pytest.MonkeyPatch, preparing: Callable[[Callable[[], None]], None]) -> None:
    """Let `preparing` run before the preparation; it is given what the preparation calls between its steps."""

    def instead(*arguments: Any, between: Callable[[], None], **options: Any) -> Any:
        preparing(between)
        return prepare(*arguments, between=between, **options)

    monkeypatch.setattr(run, "prepare", instead)


def broken() -> Runtime:
    raise BROKEN


def test_the_runtime_opens_while_the_scans_are_prepared(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    opening, preparing = threading.Event(), threading.Event()

    def open_slowly() -> None:
        opening.set()
        assert preparing.wait(LONG_S)

    def prepare_slowly(_: Callable[[], None]) -> None:
        preparing.set()
        assert opening.wait(LONG_S)

    expected = segment(case, MODEL)
    opened_by(monkeypatch, open_slowly)
    prepared_by(monkeypatch, prepare_slowly)
    assert segment(case, MODEL).probability.tobytes() == expected.probability.tobytes()


def test_a_broken_model_is_refused_before_the_preparation_ends(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nothing but what would have been waited for anyway."""

    def prepare_for_ever(between: Callable[[], None]) -> None:
        for _ in range(round(LONG_S / 0.01)):
            between()
            threading.Event().wait(0.01)

    opened_by(monkeypatch, broken)
    prepared_by(monkeypatch, prepare_for_ever)
    with pytest.raises(ModelError) as caught:
        segment(case, MODEL)
    assert caught.value is BROKEN


def test_registration_is_not_begun_for_a_model_that_cannot_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_by(monkeypatch, lambda: threading.Event().wait(0.3) or broken())
    room = sys.modules["strokeseg.prepare.prepare"]
    monkeypatch.setattr(room, "_registered", lambda *_: pytest.fail("registered"))
    with pytest.raises(ModelError):
        segment(case, MODEL, register=True)


def test_of_a_broken_model_and_wrong_scans_the_model_is_told_first(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()

    def break_late() -> Runtime:
        assert refused.wait(LONG_S)
        raise BROKEN

    def refuse(_: Callable[[], None]) -> None:
        refused.set()
        raise InputError("The scans are wrong.", "A test says so.", "Give others.")

    prepared_by(monkeypatch, refuse)
    with pytest.raises(InputError, match="The scans are wrong"):
        segment(case, MODEL)
    refused.clear()
    opened_by(monkeypatch, break_late)
    with pytest.raises(ModelError, match="The model is broken"):
        segment(case, MODEL)


def test_a_cancelled_run_waits_for_the_thread_that_opens(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, ended = threading.Event(), []

    def open_until_stopped() -> None:
        assert stop.wait(LONG_S)
        threading.Event().wait(0.2)
        ended.append(True)

    opened_by(monkeypatch, open_until_stopped)
    prepared_by(monkeypatch, lambda _: stop.set())
    with pytest.raises(Cancelled, match="'prepare'"):
        segment(case, MODEL, monitor=Monitor(cancelled=stop.is_set))
    assert ended == [True]


def test_memory_that_the_opening_lacks_is_told_as_before(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> Runtime:
        raise MemoryError

    opened_by(monkeypatch, no_room)
    with pytest.raises(MemoryError):
        segment(case, MODEL)
