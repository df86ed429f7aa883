"""The commands of the exam: ``exam`` prints a model's result, ``calibrate`` sets its numbers by it.

``cascade`` sets thresholds, too, but by the patients of a validation side.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg.errors import DependencyError, InputError

if TYPE_CHECKING:
    from strokeseg.events import Monitor
    from strokeseg.models import ModelCard
    from strokeseg_training._exam_choice import Choice
    from strokeseg_training.exam import Answer, Exam, ExamResult


class Objective(StrEnum):
    """What the temperature minimises."""

    nll = "nll"
    ece = "ece"


ModelArgument = Annotated[str, typer.Argument(help="The model folder.", metavar="MODEL")]
ExamOption = Annotated[
    str | None, typer.Option("--exam", help="Name of an exam or a file. Default: the newest of the model's task.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(exam)
    app.command()(calibrate)
    app.command()(cascade)


def exam(
    model: ModelArgument,
    name: ExamOption = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Default: the card's; its peak moves along.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0.05, max=20, help="Default: the card's.")] = None,
    min_lesion_ml: Annotated[float | None, typer.Option(min=0, help="Default: the card's.")] = None,
    out: Annotated[str | None, typer.Option(help="Also write everything, each patient's figures too, as JSON.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """Let a model take the exam: synthetic patients that no training has seen."""
    with in_words(output), cancellable(output) as monitor:
        card, taken, answers = _answers(Path(model), name, monitor)
        from strokeseg.postprocess import peak_at  # noqa: PLC0415
        from strokeseg_training.exam import Settings, grade  # noqa: PLC0415  PyTorch takes seconds, --help must not

        own = card.decision
        used = own.threshold if threshold is None else threshold
        settings = Settings(
            threshold=used,
            peak=peak_at(used, own_threshold=own.threshold, own_peak=own.peak),
            temperature=card.temperature if temperature is None else temperature,
            minimum_lesion_ml=card.minimum_lesion_ml if min_lesion_ml is None else min_lesion_ml,
        )
        result = grade(answers, settings, taken.name, taken.generator_version)
        if out is not None:
            _write(Path(out), json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    if output is Format.json:
        console.print_json({"event": "result", "model": card.name, **result.to_dict()})
    else:
        console.out.print(f"{card.title} ({card.name} {card.version})", markup=False)
        console.out.print(table(result), markup=False)


def calibrate(
    model: ModelArgument,
    name: ExamOption = None,
    objective: Annotated[Objective, typer.Option(help="What the temperature minimises.")] = Objective.nll,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print only, leave the card as it is.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Choose temperature, threshold, peak and minimum lesion volume on the exam, and write them into the card."""
    with in_words(output), cancellable(output) as monitor:
        folder = Path(model)
        card, taken, answers = _answers(folder, name, monitor)
        from strokeseg_training.exam import EMPTY_FALSE_ML, choose, grade  # noqa: PLC0415  see above
        from strokeseg_training.exam_model import settings_of  # noqa: PLC0415

        choice = choose(answers, objective=objective.value, empty_false_ml=EMPTY_FALSE_ML[taken.task])
        before = grade(answers, settings_of(card), taken.name, taken.generator_version)
        after = grade(answers, choice.settings, taken.name, taken.generator_version)
        if not dry_run:
            write_settings(folder, before, after)
    if output is Format.json:
        pair = {"before": before.summary(), "after": after.summary()}
        console.print_json({"event": "result", "model": card.name, "written": not dry_run, **pair, **choice.to_dict()})
    else:
        _tell(card, before, after, choice, written=not dry_run)


def cascade(
    model: ModelArgument,
    recipe: Annotated[str, typer.Option(help="Name of the recipe of the set, or a YAML file. Required.")],
    data: Annotated[str, typer.Option(help="The prepared set; its validation side is used, no other. Required.")],
    originals: Annotated[str, typer.Option(help="Folder of the data set that it was prepared from. Required.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0 (or another number) or mps.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print only, leave the card as it is.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Choose the thresholds of a model's cascade on the validation of a prepared set, and write them into its card."""
    with in_words(output), cancellable(output) as monitor:
        try:
            from strokeseg.models import read_card  # noqa: PLC0415  see above
            from strokeseg_training.cascade import tune_cascade, write_decision  # noqa: PLC0415  see above
            from strokeseg_training.prepare.recipe import load_data_recipe  # noqa: PLC0415
        except ImportError as error:
            raise _missing("Thresholds cannot be chosen here.", error) from error
        folder = Path(model).expanduser()
        peak = read_card(folder).decision.peak
        places = (Path(data).expanduser(), Path(originals).expanduser())
        tuned = tune_cascade(load_data_recipe(recipe, settings or []), folder, *places, device=device, monitor=monitor)
        card = write_decision(folder, tuned)
        if not dry_run:
            _write(folder / "card.json", json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    said = {key: asdict(getattr(tuned, key)) for key in ("decision", "before", "after")}
    if output is Format.json:
        console.print_json({"event": "result", "model": card["name"], "written": not dry_run, **said})
        return
    console.out.print(
        f"{card['title']}: {tuned.patients} patients in validation, {tuned.ill} with a lesion.", markup=False
    )
    for name in ("before", "after"):
        numbers = ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in said[name].items())
        console.out.print(f"{name}: {numbers}", markup=False)
    chosen = ", ".join(f"{s.threshold:g}" for s in tuned.decision.steps) + f", else {tuned.decision.threshold:g}"
    console.out.print(f"{'Not written' if dry_run else 'Written into the card'}: thresholds {chosen}", markup=False)
    if peak:
        console.out.print(
            f"The card {'would no longer ask' if dry_run else 'no longer asks'} lesions for a peak of {peak:g}."
        )
    console.out.print("What the card has as measured belongs to the old thresholds: evaluate the model again.")


def _missing(title: str, error: ImportError) -> DependencyError:
    return DependencyError(title, f"A library is missing: {error}.", "Install it with: pip install 'strokeseg[train]'.")


def write_settings(folder: Path, before: ExamResult, after: ExamResult) -> None:
    """Write an exam's choice into the card of a model folder, and what the exam measured with it.

    Args:
        folder: The model folder.
        before: The result with the card's numbers so far.
        after: The result with the chosen ones.

    Raises:
        ModelError: The card would no longer be one.
        InputError: It cannot be written.
    """
    from strokeseg.models.card import parse_card  # noqa: PLC0415  see above

    path = folder / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    chosen = after.settings
    card["temperature"], card["minimum_lesion_ml"] = chosen.temperature, chosen.minimum_lesion_ml
    card["decision"]["threshold"] = chosen.threshold
    card["decision"].pop("peak", None)
    if chosen.peak:
        card["decision"]["peak"] = chosen.peak
    data = f"exam {after.exam}, synthetic"
    measured = {
        "data": data,
        **after.summary(),
        "ece_before_calibration": before.ece,
        "nll_before_calibration": before.nll,
    }
    card["measured"] = [m for m in card["measured"] if m.get("data") != data] + [measured]
    parse_card(card, folder)
    _write(path, json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def table(result: ExamResult) -> str:
    """A result as text for people."""
    settings = result.settings
    lines = [
        f"Exam {result.exam} (generator version {result.generator_version}): threshold {settings.threshold:g}, "
        f"peak {settings.peak:g}, temperature {settings.temperature:g}, minimum {settings.minimum_lesion_ml:g} ml",
        f"{'':14}{'cases':>6}{'Dice':>8}{'F1':>8}{'precision':>11}{'recall':>8}{'false ml':>10}   "
        "lesions found: <0.1 ml, 0.1-1 ml, >1 ml",
    ]
    for name, group in result.groups.items():
        found = "".join(f"{s.found:>6} of {s.lesions:<5}" for s in group.recall_by_size)
        numbers = "".join(
            f"{_number(v):>{w}}"
            for v, w in (
                (group.dice, 8), (group.lesion_f1, 8), (group.precision, 11), (group.sensitivity, 8),
                (group.false_positive_ml, 10),
            )
        )  # fmt: skip
        lines.append(f"{name:14}{group.cases:>6}{numbers}  {found}")
    empty = result.empties
    lines.append(
        f"without lesion: {empty.cases} cases, {empty.clean} of them clean; false positives "
        f"{_number(empty.false_positive_ml)} ml on average, {_number(empty.largest_false_positive_ml)} ml at most, "
        f"{empty.false_lesions} components"
    )
    lines.append(f"calibration in brain voxels: ECE {result.ece:.5f}, NLL {result.nll:.5f}, Brier {result.brier:.5f}")
    return "\n".join(lines)


def _answers(folder: Path, name: str | None, monitor: Monitor) -> tuple[ModelCard, Exam, tuple[Answer, ...]]:
    try:
        from strokeseg_training.exam import Exam, answer, newest_exam  # noqa: PLC0415  see above
        from strokeseg_training.exam_model import open_predictor, task_of  # noqa: PLC0415
    except ImportError as error:
        raise _missing("The exam cannot be taken here.", error) from error
    card, predictor = open_predictor(folder)
    taken = Exam.load(name or newest_exam(task_of(card)))
    with monitor.stage("exam", f"{len(taken.scenes)} patients of {taken.name}"):
        return card, taken, answer(predictor, taken, monitor)


def _tell(card: ModelCard, before: ExamResult, after: ExamResult, choice: Choice, *, written: bool) -> None:
    console.out.print(f"{card.title} ({card.name} {card.version})", markup=False)
    console.out.print("Before\n" + table(before) + "\nAfter\n" + table(after), markup=False)
    used = after.settings
    chosen = [t for t in choice.tried if (t.peak, t.minimum_lesion_ml) == (used.peak, used.minimum_lesion_ml)]
    console.out.print("  ".join(f"{t.threshold:g}: {t.worth:.3f}" for t in chosen), markup=False)
    console.out.print("(threshold: mean of Dice and lesion F1, at this peak and minimum lesion volume)", markup=False)
    numbers = ", ".join(f"{k} {v:g}" for k, v in asdict(after.settings).items())
    console.out.print(f"{'Written into the card' if written else 'Not written'}: {numbers}", markup=False)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"'{path.name}' was not written.", f"The system said: {error.strerror or error}.", "Choose another place."
        ) from error


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
