"""Figures as PNG: curves of a training, and how well patients of every size were done. matplotlib, without a screen.

Colours are Okabe and Ito's (2008); what a colour says, a shape, a dash or a word says, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from strokeseg.metrics.strata import CASE_STRATA, CASE_VOLUME_ML, TIER_DICE, TIERS
from strokeseg_training.evaluate.logs import Columns
from strokeseg_training.evaluate.record import Record

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
TIER_NAMES = ("excellent", "good", "moderate", "poor")
TIER_COLOURS = (BLUE, SKY, ORANGE, RED)
_MARKERS, _DASHES = ("o", "s", "^", "X"), ("-", "--", "-.", ":")
_COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
_SMALLEST_ML = 1e-3


def save(figure: Figure, path: Path, note: str) -> Path:
    """Write a figure, with a line below it that says what it was made from; the same bytes for the same figure."""
    figure.supxlabel(note, x=0.01, ha="left", fontsize=6.5, color="#59616b")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    *,
    title: str = "",
    log: bool = False,
    best: tuple[float, float] | None = None,
) -> Figure:
    """Lines over the steps of a training.

    Args:
        lines: Name to steps and values; values that are no numbers leave a gap.
        label: Of the values.
        title: Of the figure.
        log: Whether the values stand on a logarithmic axis.
        best: Step and value of the best validation, marked.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    draw_lines(axes, lines)
    if best is not None:
        axes.axhline(best[1], color="#59616b", linewidth=0.8, linestyle=":")
        axes.plot(*best, marker="*", markersize=12, color=ORANGE, linestyle="", label=f"best {best[1]:.3f}")
    axes.set(xlabel="step", ylabel=label, title=title)
    if log:
        axes.set_yscale("log")
    _finish(axes)
    return figure


def draw_lines(axes: Any, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Put lines onto axes; few points get markers, so that one alone is seen."""
    for number, (name, (steps, values)) in enumerate(lines.items()):
        axes.plot(
            steps,
            values,
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_DASHES[number % len(_DASHES)],
            marker=_MARKERS[number % len(_MARKERS)] if len(steps) < 40 else "",
            markersize=4,
            linewidth=1.4,
        )


def two_scales(columns: Columns, scores: Columns, score: str, title: str) -> Figure:
    """Loss of training and validation on the left axis, a score on the right one."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    left = figure.add_subplot()
    lines = {"training loss": (columns["step"], columns["loss"])}
    if "loss" in scores:
        lines["validation loss"] = (scores["step"], scores["loss"])
    draw_lines(left, lines)
    left.set(xlabel="step", ylabel="loss", title=title)
    handles, names = left.get_legend_handles_labels()
    if score in scores:
        right = left.twinx()
        right.plot(scores["step"], scores[score], color=GREEN, linestyle=":", marker="^", label=f"validation {score}")
        right.set(ylabel=f"validation {score}", ylim=(0, 1))
        more = right.get_legend_handles_labels()
        handles, names = handles + more[0], names + more[1]
    left.legend(handles, names, fontsize=8, frameon=False)
    left.grid(visible=True, linewidth=0.4, alpha=0.5)
    return figure


def by_size(records: Sequence[Record]) -> Figure:
    """Dice of each patient with a lesion over its volume, by tier."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    _scatter(figure.add_subplot(), records)
    return figure


def tier_bars(records: Sequence[Record]) -> Figure:
    """How many patients with a lesion reached each tier."""
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    _bars(figure.add_subplot(), records)
    return figure


def distributions(records: Sequence[Record]) -> Figure:
    """Dice of the patients with a lesion, and how much was drawn where there is none."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    _histogram(left, records)
    _false_volumes(right, records)
    return figure


def performance(records: Sequence[Record]) -> Figure:
    """Four views in one: size, distribution, tiers and groups of size."""
    figure = Figure(figsize=(11.0, 8.0), layout="constrained")
    grid = figure.subplots(2, 2)
    _scatter(grid[0][0], records)
    _histogram(grid[0][1], records)
    _bars(grid[1][0], records)
    _violins(grid[1][1], records)
    return figure


def _ill(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.any.reference_voxels]


def _scatter(axes: Any, records: Sequence[Record]) -> None:
    for tier, name, colour, marker in zip(TIERS, TIER_NAMES, TIER_COLOURS, _MARKERS, strict=True):
        own = [r.any for r in _ill(records) if r.any.tier == tier]
        axes.scatter(
            [max(m.reference_ml, _SMALLEST_ML) for m in own],
            [m.dice for m in own],
            color=colour,
            marker=marker,
            s=26,
            label=f"{name} ({tier}): {len(own)}",
        )
    for border in TIER_DICE:
        axes.axhline(border, color="#59616b", linewidth=0.7, linestyle=":")
    for border in CASE_VOLUME_ML:
        axes.axvline(border, color="#59616b", linewidth=0.7, linestyle=":")
    axes.set(
        xscale="log",
        xlabel="lesion volume of the reference (ml)",
        ylabel="Dice",
        ylim=(-0.03, 1.03),
        title="Dice and lesion volume",
    )
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    # Below the axes: inside, it would hide patients.
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _histogram(axes: Any, records: Sequence[Record]) -> None:
    dice = [r.any.dice for r in _ill(records)]
    axes.hist(dice, bins=np.linspace(0, 1, 21).tolist(), color=SKY, edgecolor="white")
    if dice:
        mean = math.fsum(dice) / len(dice)
        axes.axvline(mean, color=RED, linestyle="--", label=f"mean {mean:.3f} (n = {len(dice)})")
    axes.set(xlabel="Dice", ylabel="patients", xlim=(0, 1), title="Patients with a lesion")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)


def _false_volumes(axes: Any, records: Sequence[Record]) -> None:
    volumes = sorted(r.any.false_positive_ml for r in records if not r.any.reference_voxels)
    axes.plot(range(1, len(volumes) + 1), volumes, color=ORANGE, marker="s", linestyle="")
    text = f"n = {len(volumes)}" if volumes else "There is no patient without lesion."
    axes.text(0.03, 0.95, text, transform=axes.transAxes, va="top", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="patients in order", ylabel="false-positive volume (ml)", title="Patients without lesion")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)


def _bars(axes: Any, records: Sequence[Record]) -> None:
    counts = [sum(r.any.tier == tier for r in _ill(records)) for tier in TIERS]
    names = [f"{name}\n{tier}" for name, tier in zip(TIER_NAMES, TIERS, strict=True)]
    bars = axes.bar(names, counts, color=TIER_COLOURS)
    axes.bar_label(bars)
    axes.set(ylabel="patients with a lesion", title="Tiers of Dice")
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _violins(axes: Any, records: Sequence[Record]) -> None:
    groups = [[r.any.dice for r in _ill(records) if r.any.volume_stratum == s] for s in CASE_STRATA]
    for place, (dice, colour) in enumerate(zip(groups, (PINK, GREEN, BLUE), strict=True)):
        # A density needs more than one value; every patient is a point all the same.
        if len(set(dice)) > 1:
            body = axes.violinplot([dice], positions=[place], widths=0.8, showextrema=False)["bodies"][0]
            body.set(facecolor=colour, alpha=0.35)
        spread = np.linspace(-0.08, 0.08, len(dice)) if len(dice) > 1 else np.zeros(len(dice))
        axes.plot(place + spread, dice, linestyle="", marker=_MARKERS[place], color=colour, markersize=4)
        if dice:
            axes.plot([place - 0.2, place + 0.2], [math.fsum(dice) / len(dice)] * 2, color="black", linewidth=1.6)
    names = [f"{s}\nn = {len(g)}" for s, g in zip(CASE_STRATA, groups, strict=True)]
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="Dice", ylim=(-0.03, 1.03), title="Groups of lesion volume (line: mean)")
    axes.grid(visible=True, axis="y", linewidth=0.4, alpha=0.5)


def _finish(axes: Any) -> None:
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False)
