"""``strokeseg-train fit``: what the user types, and what is said at the end."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg import console
from strokeseg.command import Format, FormatOption, cancellable, in_words
from strokeseg.errors import Cancelled, DependencyError, InputError

if TYPE_CHECKING:
    from strokeseg_training.fit.run import Fitted

_STOPPED = {
    "": "Complete",
    "patience": "Stopped because nothing got better",
    "minutes": "Stopped by --max-minutes",
    "steps": "Stopped by --limit-steps",
    "cancelled": "Stopped on request",
}


def fit(
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe, or a YAML file. Default with --resume: the run's own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. optimiser.lr=3e-4; may be repeated."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run. Default: runs/NAME.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Stop after so many minutes of training; the run is saved.")
    ] = None,
    limit_steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many of the recipe's steps; the run is saved.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Begin with these weights and a fresh optimiser: a model's name or folder, or a file such as a run's "
            "snapshot.safetensors. Default: what the recipe says."
        ),
    ] = None,
    at_step: Annotated[
        int, typer.Option(min=0, help="With --init-from: the step of the recipe at which schedule and data begin.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, as if never stopped.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[
        int,
        typer.Option(min=1, help="Processes on each machine that train together, one a GPU."),
    ] = 1,
    num_nodes: Annotated[
        int, typer.Option(min=1, help="Machines; their processes are started by torchrun or SLURM.")
    ] = 1,
    max_memory: Annotated[
        float | None,
        typer.Option(min=0.0, help="GB that the run may be expected to need before it starts. Default: what is free."),
    ] = None,
    output: FormatOption = Format.text,
) -> None:
    """Train a network by a recipe. Ctrl+C stops after the step and saves; --resume goes on."""
    with in_words(output):
        # Before the libraries are loaded, which takes seconds: Ctrl+C must be heard from the first moment on.
        with cancellable(Format.json if _is_further_process() else output) as monitor:
            load_recipe, run, own_recipe = _library()
            if recipe is None and not (resume and out):
                raise InputError(
                    "There is no recipe.",
                    "Neither --recipe nor a run to resume was given.",
                    "Add --recipe NAME_OR_FILE.",
                )
            source = recipe or str(Path(str(out)) / own_recipe)
            chosen = load_recipe(source, settings or [])
            done = run.fit(
                chosen,
                out or Path("runs") / chosen.name,
                start=run.Start(resume, init_from, at_step),
                limits=run.Limits(max_minutes, limit_steps, max_memory),
                device=device,
                devices=devices,
                machines=num_nodes,
                command=_command(recipe or chosen.name, settings or [], init_from, at_step),
                monitor=monitor,
            )
        if done.process:
            return
        if output is Format.json:
            console.print_json(_as_json(done))
        else:
            _tell(done)
    if done.stopped_by == "cancelled":
        raise typer.Exit(Cancelled.exit_code)


def _is_further_process() -> bool:
    """Whether another process shows how the training goes on; as Lightning, torchrun and SLURM say it."""
    return any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def _library() -> tuple[Any, Any, str]:
    try:
        from strokeseg_training.fit import run  # noqa: PLC0415  PyTorch and Lightning take seconds, --help must not
        from strokeseg_training.fit.folder import RECIPE  # noqa: PLC0415
        from strokeseg_training.recipe import load_recipe  # noqa: PLC0415
    except ImportError as error:
        raise DependencyError(
            "Nothing can be trained here.",
            f"A library is missing: {error}.",
            "Install it with: pip install 'strokeseg[train]'.",
        ) from error
    return load_recipe, run, RECIPE


def _command(recipe: str, settings: list[str], init_from: str | None, at_step: int) -> str:
    """The command without the folders of whoever typed it."""
    parts = ["strokeseg-train", "fit", "--recipe", Path(recipe).name]
    for setting in settings:
        parts += ["--set", setting]
    if init_from:
        parts += ["--init-from", Path(init_from).name]
    if at_step:
        parts += ["--at-step", str(at_step)]
    return shlex.join(parts)


def _as_json(done: Fitted) -> dict[str, Any]:
    return {
        "event": "result",
        "folder": str(done.folder),
        "checkpoint": str(done.checkpoint),
        "step": done.step,
        "steps": done.steps,
        "stopped_by": done.stopped_by,
        "loss": None if math.isnan(done.loss) else done.loss,
        "best_dice": done.best_dice,
        "seconds": done.seconds,
        "waiting_share": done.waiting_share,
    }


def _tell(done: Fitted) -> None:
    best = "" if done.best_dice is None else f", best validation Dice {done.best_dice:.3f}"
    loss = "" if math.isnan(done.loss) else f", loss {done.loss:.4f}"
    console.out.print(f"{_STOPPED[done.stopped_by]}: step {done.step} of {done.steps}{loss}{best}")
    console.out.print(f"{done.seconds:.0f} s of training, {done.waiting_share:.0%} of it waiting for data")
    console.out.print(f"Saved: {done.checkpoint}", markup=False)
    if done.step < done.steps and done.stopped_by != "patience":
        console.out.print(
            f"Go on with: strokeseg-train fit --resume --out {shlex.quote(str(done.folder))}", markup=False
        )
    where = done.folder / "best" if (done.folder / "best").is_dir() else done.checkpoint
    console.out.print(
        f"Export with: strokeseg-train export --card {where / 'card.json'} --checkpoint "
        f"{where / 'snapshot.safetensors'} --out MODEL",
        markup=False,
    )
