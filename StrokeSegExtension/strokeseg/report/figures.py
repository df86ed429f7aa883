"""Numbers as they are printed for people: few digits, a true minus sign, a dash or words where there is no value."""

from __future__ import annotations

import math
from collections.abc import Sequence

NO_VALUE = "–"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """`value` with a fixed number of digits; a dash for None and NaN."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    rounded = round(float(value), digits) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def millilitres(value: float | None) -> str:
    """A volume: one digit from 10 ml on, two below; a volume above 0 is never printed as 0."""
    if value is not None and 0 < value < 0.005:
        return "< 0.01"
    return number(value, 1 if value is not None and value >= 9.995 else 2)


def intensity(value: float | None) -> str:
    """A grey value in arbitrary units: three significant digits, whole numbers from 100 on."""
    if value is None or not math.isfinite(value) or value == 0:
        return number(value, 0)
    return number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def product(values: Sequence[float], digits: int = 0) -> str:
    """Lengths as ``a × b × c``, at most `digits` digits."""
    return " × ".join(f"{round(float(v), digits):g}" for v in values)


def count(n: int, one: str, many: str) -> str:
    """``1 lesion``, ``3 lesions``."""
    return f"{n} {one if n == 1 else many}"
