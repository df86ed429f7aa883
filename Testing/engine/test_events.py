"""What a run says while it works: events as lines of JSON, warnings once, stages measured, cancellation noticed."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from strokeseg.errors import (
    Cancelled,
    DependencyError,
    InputError,
    MemoryLimitError,
    ModelError,
    StrokeSegError,
)
from strokeseg.events import ErrorEvent, Event, Log, Monitor, Progress, Result, WarningEvent


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (
            Progress("read", 1, 4, "dwi"),
            {"event": "progress", "stage": "read", "done": 1, "total": 4, "message": "dwi"},
        ),
        (Log("a line"), {"event": "log", "message": "a line"}),
        (WarningEvent("b_value", "odd"), {"event": "warning", "code": "b_value", "message": "odd"}),
        (
            Result({"mask": "m.nii.gz"}, {"volume_ml": 1.5}),
            {"event": "result", "files": {"mask": "m.nii.gz"}, "summary": {"volume_ml": 1.5}},
        ),
        (
            ErrorEvent.of(ModelError("What.", "Why.", "Next.")),
            {
                "event": "error",
                "kind": "ModelError",
                "title": "What.",
                "cause": "Why.",
                "next_step": "Next.",
                "exit_code": 4,
            },
        ),
    ],
)
def test_an_event_travels_as_one_line_with_its_name(event: Event, data: dict[str, object]) -> None:
    assert json.loads(event.to_json()) == data
    assert next(iter(event.to_dict())) == "event"


@pytest.mark.parametrize("text", ['two\nlines\r\n"quoted" \\ back', "µ² 脳梗塞 🧠", "\x00\x1b"])
def test_any_text_stays_within_one_line(text: str) -> None:
    line = Log(text).to_json()
    assert not set(line) & {"\n", "\r", "\x00"}
    assert json.loads(line)["message"] == text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused_where_they_arise(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Result({}, {"dice": number}).to_json()


def test_events_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Log("a").message = "b"  # type: ignore[misc]  # the very thing that must fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StrokeSegError, 1),
        (InputError, 3),
        (ModelError, 4),
        (DependencyError, 5),
        (MemoryLimitError, 6),
    ],
)
def test_every_error_has_its_exit_code_and_three_parts(error: type[StrokeSegError], code: int) -> None:
    raised = error("What.", "Why.", "Next.")
    assert raised.as_dict() == {
        "kind": error.__name__,
        "title": "What.",
        "cause": "Why.",
        "next_step": "Next.",
        "exit_code": code,
    }
    assert str(raised) == "What. Why. Next."
    assert ErrorEvent.of(raised).to_dict() == {"event": "error", **raised.as_dict()}


def test_a_monitor_without_listener_collects_silently() -> None:
    monitor = Monitor()
    monitor.log("nobody listens")
    monitor.progress(1, 2)
    monitor.check()
    monitor.warn("code", "text")
    assert monitor.warnings == [WarningEvent("code", "text")]


def test_a_warning_is_said_once_but_one_of_another_text_again() -> None:
    heard: list[Event] = []
    monitor = Monitor(heard.append)
    for text in ("first", "first", "second", "first"):
        monitor.warn("code", text)
    monitor.warn("other", "first")
    expected = [WarningEvent("code", "first"), WarningEvent("code", "second"), WarningEvent("other", "first")]
    assert monitor.warnings == expected
    assert heard == expected


def test_a_stage_is_announced_and_measured_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr("strokeseg.events.time.perf_counter", lambda: next(clock))
    heard: list[Event] = []
    monitor = Monitor(heard.append)
    with monitor.stage("model", "running"):
        monitor.progress(1, 3, "window")
    with pytest.raises(RuntimeError, match="broken"), monitor.stage("model"):
        raise RuntimeError("broken")
    assert heard == [
        Progress("model", 0, 0, "running"),
        Progress("model", 1, 3, "window"),
        Progress("model", 0, 0, ""),
    ]
    assert monitor.seconds == {"model": 3.5}


def test_a_cancellation_is_noticed_at_the_next_progress_and_names_the_stage() -> None:
    wanted = False
    heard: list[Event] = []
    monitor = Monitor(heard.append, lambda: wanted)

    def run() -> None:
        nonlocal wanted
        with monitor.stage("model"):
            monitor.progress(1, 3)
            wanted = True
            monitor.progress(2, 3)

    with pytest.raises(Cancelled) as caught:
        run()
    assert "'model'" in caught.value.cause
    assert caught.value.exit_code == 130
    assert heard[-1] == Progress("model", 1, 3)


def test_a_cancellation_before_the_first_stage_stops_the_run_before_it_begins() -> None:
    heard: list[Event] = []
    monitor = Monitor(heard.append, lambda: True)
    with pytest.raises(Cancelled, match="before it began"):
        monitor.check()
    with pytest.raises(Cancelled), monitor.stage("read"):
        pytest.fail("the stage was entered")
    assert heard == []
