"""`Answers`: carries out one request after the other and gives the last event of each."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strokeseg import __version__
from strokeseg.errors import InputError, StrokeSegError, out_of_memory
from strokeseg.events import ErrorEvent, Monitor, Result
from strokeseg.protocol import PROTOCOL, Request

if TYPE_CHECKING:
    from strokeseg.relabel import Evidence


class Answers:
    """Carries out requests; what one of them left to be used again stays for the next."""

    def __init__(self) -> None:
        self._kept: tuple[Path, tuple[int, ...], Evidence] | None = None

    def to(self, request: Request, monitor: Monitor) -> dict[str, Any]:
        """Carry out a request.

        Args:
            request: Of a kind that takes time: ``hello``, ``segment``, ``relabel`` or ``evaluate``.
            monitor: Hears progress and warnings, notices a cancellation.

        Returns:
            Its last event without the id: ``hello``, ``result``, or ``error`` whatever went wrong.
        """
        try:
            last = _KINDS[request.kind](self, request, monitor)
            json.dumps(last, allow_nan=False)  # what cannot be sent is an error of this request
        except StrokeSegError as error:
            return ErrorEvent.of(error).to_dict()
        except MemoryError:
            return ErrorEvent.of(out_of_memory()).to_dict()
        except Exception as error:  # noqa: BLE001  an unforeseen error must reach the user, and the worker must go on
            traceback.print_exc(file=sys.stderr)
            return ErrorEvent.of(_unforeseen(error)).to_dict()
        return last

    def _hello(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        asked = request.fields.get("protocol", PROTOCOL)
        if asked != PROTOCOL:
            raise InputError(
                "The panel and the engine do not fit each other.",
                f"The panel speaks protocol {asked}, the engine (version {__version__}) speaks {PROTOCOL}.",
                "Update StrokeSeg, or choose the Python into which the matching version is installed.",
            )
        from strokeseg.runtime.devices import describe_devices, runtimes_at_hand  # noqa: PLC0415  only hello asks

        return {
            "event": "hello",
            "protocol": PROTOCOL,
            "version": __version__,
            "pid": os.getpid(),
            "runtimes": runtimes_at_hand(),
            "devices": describe_devices(),
        }

    def _segment(self, request: Request, monitor: Monitor) -> dict[str, Any]:
        from strokeseg.job import SegmentJob, SegmentOptions, run_segment  # noqa: PLC0415  loaded with the first run
        from strokeseg.relabel import evidence_of  # noqa: PLC0415

        options = SegmentOptions.checked(request.fields.get("options", {}))
        place = Path(request.fields["out"]).absolute()
        done = run_segment(SegmentJob(request.fields["inputs"], place, options), monitor)
        if done.result.card.decision.rule != "argmax":
            self._keep(place, evidence_of(done.result, place.name))
        return result_event(
            done.files,
            done.result.summary,
            lesions=[asdict(x) for x in done.result.lesions],
            metrics=None if done.metrics is None else done.metrics.to_dict(),
            seconds=done.result.timing,
        )

    def _relabel(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        from strokeseg.relabel import read_evidence, relabel  # noqa: PLC0415  loaded with the first run

        place = Path(request.fields["result"]).absolute()
        if self._kept is None or self._kept[:2] != (place, _stamp(place)):
            self._keep(place, read_evidence(place))
        assert self._kept is not None
        done = relabel(
            self._kept[2],
            threshold=request.fields["threshold"],
            min_lesion_ml=request.fields.get("min_lesion_ml"),
            out=None if "out" not in request.fields else Path(request.fields["out"]).absolute(),
        )
        return result_event(done.files, {}, lesions=[asdict(x) for x in done.lesions], volume_ml=done.volume_ml)

    def _evaluate(self, request: Request, _monitor: Monitor) -> dict[str, Any]:
        from strokeseg.evaluation import evaluate  # noqa: PLC0415  loaded with the first run

        metrics = evaluate(request.fields["prediction"], request.fields["reference"])
        return result_event({}, {}, metrics=metrics.to_dict())

    def _keep(self, place: Path, evidence: Evidence) -> None:
        self._kept = (place, _stamp(place), evidence)


_KINDS: dict[str, Callable[[Answers, Request, Monitor], dict[str, Any]]] = {
    "hello": Answers._hello,
    "segment": Answers._segment,
    "relabel": Answers._relabel,
    "evaluate": Answers._evaluate,
}


def result_event(files: Mapping[str, Path], summary: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The event ``result`` as plain data, with further fields."""
    event = Result({name: str(path) for name, path in files.items()}, dict(summary))
    return {**event.to_dict(), **more}


def _stamp(place: Path) -> tuple[int, ...]:
    """Which result lies at a place: another one, or none, has another stamp."""
    try:
        status = (place / "summary.json").stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _unforeseen(error: Exception) -> StrokeSegError:
    return StrokeSegError(
        "Something went wrong inside StrokeSeg.",
        f"{type(error).__name__}: this should not happen; the log has the details.",
        "Please report it with the log. The worker goes on; try again, or another model.",
    )
