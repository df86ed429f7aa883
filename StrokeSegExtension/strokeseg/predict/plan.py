"""`Plan`: how a model is run over a volume, chosen by its card, the device and the memory that is free there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from strokeseg.errors import InputError, ModelError
from strokeseg.models import ModelCard
from strokeseg.predict.memory import map_bytes, pass_bytes, usable_bytes
from strokeseg.predict.strategies import Size, Tiling, slice_window
from strokeseg.runtime import Runtime

STRATEGIES = ("whole", "windows", "slices")
"""The strategies that this version can carry out."""
SMALLEST_SIDE = 32
"""Voxels; smaller windows are mostly border."""
_SIDES = (192, 160, 128, 96, 64, 48, SMALLEST_SIDE)
_USUAL_SIDE = 96
# Voxels that are run together: on a CPU a larger batch is no faster, and waits longer before it hears a cancellation.
_MOST_VOXELS = {"cpu": 64**3, "gpu": 2 * 128**3}


@dataclass(frozen=True)
class Asked:
    """What the user asks for; None: the model's own.

    Attributes:
        strategy: ``auto`` or one of `STRATEGIES`.
        window: Voxels (x, y, z) along right, anterior, superior on the model's grid.
        overlap: Share of a window, 0 to 0.9.
        tta: Run the mirrored case, too, and take the mean.
        uncertainty: Give the entropy of that mean; runs the mirrored case, too.
    """

    strategy: str = "auto"
    window: Size | None = None
    overlap: float | None = None
    tta: bool = False
    uncertainty: bool = False


@dataclass(frozen=True)
class Plan:
    """How a model is run.

    Attributes:
        strategy: One of `STRATEGIES`.
        reason: Why so, in words.
        tiling: Of windows and slices; None for `whole`.
        short_of_memory: Whether the model would be run otherwise if there were more memory.
    """

    strategy: str
    reason: str
    tiling: Tiling | None = None
    short_of_memory: bool = False


def check_asked(card: ModelCard, asked: Asked) -> None:
    """Refuse what a model cannot do, before any work.

    Raises:
        ModelError: The model cannot be run by this strategy, or by such windows.
        InputError: The options contradict each other.
    """
    strategy = card.strategy if asked.strategy == "auto" else asked.strategy
    if strategy not in STRATEGIES:
        raise ModelError(
            f"The strategy '{strategy}' cannot be used.",
            f"This version runs models by: {', '.join(STRATEGIES)}.",
            "Leave --strategy out, or choose another model.",
        )
    for option, value in (("--window", asked.window), ("--overlap", asked.overlap)):
        if value is not None and (asked.strategy in ("whole", "slices") or card.strategy == "slices"):
            raise InputError(
                f"The option {option} cannot be used.",
                f"The model is run by the strategy '{strategy}', which has no windows.",
                f"Leave {option} out, or choose --strategy windows.",
            )
    wish = _wish(asked)
    if card.runtime == "threshold" and wish in ("windows", "slices"):
        raise _refused(card, wish, "It is a rule that compares every voxel with the whole brain.")
    if card.strategy == "slices" and wish not in ("auto", "slices"):
        raise _refused(card, wish, "Its network works in two dimensions.")
    if card.strategy != "slices" and wish == "slices":
        raise _refused(card, wish, "Its network works in three dimensions.")
    if asked.window is not None:
        _check_window(card, asked.window)


def choose_plan(card: ModelCard, runtime: Runtime, shape: Size, asked: Asked) -> Plan:
    """How to run a model over a volume.

    Args:
        card: The model.
        runtime: What will run it.
        shape: Voxels (x, y, z) of the model grid.
        asked: What the user asks for.

    Raises:
        ModelError, InputError: See `check_asked`; or one pass is asked of a network that takes another size only.
    """
    check_asked(card, asked)
    strategy, reason = _strategy(card, shape, asked)
    if card.runtime == "threshold":
        return Plan(strategy, reason)
    usable = usable_bytes(runtime)
    if strategy == "slices":
        return _tiled(card, runtime, shape, usable, _slices(card, runtime, shape, usable, reason))
    if strategy == "windows":
        return _windows(card, runtime, shape, usable, asked, reason)
    needed = pass_bytes(card, runtime.name, prod(shape))
    size = f"one pass over {_text(shape)} voxels needs about {needed / 1e9:.1f} GB"
    if usable is None:
        return Plan(strategy, f"{reason}; {size}")
    room = f"{usable / 1e9:.1f} GB can be used on {runtime.device}"
    if needed <= usable or asked.strategy == "whole":
        return Plan(strategy, f"{reason}; {size}, {room}")
    less = _windows(card, runtime, shape, usable, asked, f"{size}, only {room}", largest=max(_SIDES))
    return replace(less, short_of_memory=True)


def _strategy(card: ModelCard, shape: Size, asked: Asked) -> tuple[str, str]:
    """Strategy and reason, memory left aside."""
    other_size = card.input_shape not in (None, shape)
    wish = _wish(asked)
    if wish == "whole" and other_size:
        raise _refused(card, wish, f"It takes {_text(card.input_shape)} voxels only; the brain has {_text(shape)}.")
    if wish != "auto":
        return wish, "as asked for"
    if card.strategy == "whole" and other_size:
        return "windows", "the network takes one size only"
    return card.strategy, "the model's own"


def _wish(asked: Asked) -> str:
    """The strategy that is asked for; who asks for a window asks for windows."""
    return "windows" if asked.window is not None or asked.overlap is not None else asked.strategy


def up_to_multiple(voxels: int, multiple: int) -> int:
    """The smallest multiple that is not less."""
    return -(-voxels // multiple) * multiple


def _slices(card: ModelCard, runtime: Runtime, shape: Size, usable: int | None, reason: str) -> Plan:
    """One slice is the least that such a network takes: `_tiled` runs more together where they fit, none is cut."""
    tiling = Tiling(slice_window(shape, card.input_shape), card.overlap)
    needed = pass_bytes(card, runtime.name, prod(tiling.window))
    if usable is None or needed <= usable:
        return Plan("slices", reason, tiling)
    x, y, _ = tiling.window
    words = f"one slice of {x}x{y} voxels needs about {needed / 1e9:.1f} GB, only {usable / 1e9:.1f} GB can be used"
    return Plan("slices", f"{reason}; {words} on {runtime.device}", tiling, short_of_memory=True)


def _windows(
    card: ModelCard,
    runtime: Runtime,
    shape: Size,
    usable: int | None,
    asked: Asked,
    reason: str,
    *,
    largest: int = _USUAL_SIDE,
) -> Plan:
    overlap = card.overlap if asked.overlap is None else asked.overlap
    own = card.input_shape or asked.window or card.window
    if own is not None and (card.input_shape or asked.window or _fits(card, runtime, own, usable)):
        window, short = own, False
    else:
        most = largest if own is None else max(own)
        windows = [_side_window(side, shape, card.preparation.multiple) for side in _SIDES if side <= most]
        windows = windows or [_side_window(SMALLEST_SIDE, shape, card.preparation.multiple)]
        window = next((w for w in windows if _fits(card, runtime, w, usable)), windows[-1])
        short = own is not None or window != windows[0]
    tiling = Tiling(window, overlap, card.preparation.multiple)
    words = f"{reason}; windows of {_text(window)} voxels that overlap by {overlap:.0%}"
    return _tiled(card, runtime, shape, usable, Plan("windows", words, tiling, short))


def _tiled(card: ModelCard, runtime: Runtime, shape: Size, usable: int | None, plan: Plan) -> Plan:
    """The plan with its batch, and with the place where windows are added up."""
    if plan.tiling is None:
        return plan
    voxels = prod(plan.tiling.window)
    batch = max(1, _MOST_VOXELS["cpu" if runtime.device == "cpu" else "gpu"] // voxels)
    on_device = True
    if usable is not None:
        while batch > 1 and pass_bytes(card, runtime.name, batch * voxels) > usable:
            batch //= 2
        room = usable - pass_bytes(card, runtime.name, batch * voxels)
        padded = [max(s, w) for s, w in zip(shape, plan.tiling.window, strict=True)]
        on_device = runtime.device == "cpu" or map_bytes(card, (padded[0], padded[1], padded[2])) <= room
    return replace(plan, tiling=replace(plan.tiling, batch=batch, on_device=on_device))


def _side_window(side: int, shape: Size, multiple: int) -> Size:
    x, y, z = (min(up_to_multiple(side, multiple), up_to_multiple(s, multiple)) for s in shape)
    return x, y, z


def _fits(card: ModelCard, runtime: Runtime, window: Size, usable: int | None) -> bool:
    return usable is None or pass_bytes(card, runtime.name, prod(window)) <= usable


def _check_window(card: ModelCard, window: Size) -> None:
    if card.input_shape is not None and window != card.input_shape:
        raise ModelError(
            f"The model '{card.name}' cannot be run by windows of {_text(window)} voxels.",
            f"Its network takes {_text(card.input_shape)} voxels only.",
            "Leave --window out.",
        )
    multiple = card.preparation.multiple
    if any(w % multiple for w in window):
        near = ",".join(str(up_to_multiple(w, multiple)) for w in window)
        raise ModelError(
            f"The model '{card.name}' cannot be run by windows of {_text(window)} voxels.",
            f"Its network halves the axes; they must be multiples of {multiple}.",
            f"Give --window {near}.",
        )


def _refused(card: ModelCard, strategy: str, why: str) -> ModelError:
    return ModelError(
        f"The model '{card.name}' cannot be run by the strategy '{strategy}'.", why, "Leave --strategy out."
    )


def _text(size: Size | None) -> str:
    return "x".join(map(str, size or ()))
