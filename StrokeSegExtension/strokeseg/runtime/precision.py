"""What a processor computes in. ``fp32``, ``bf16`` and ``fp16`` mean the same in every runtime.

``fp32`` is full single precision, on GPUs too. On a CPU the others are used where the processor multiplies in them
by itself; elsewhere they would be imitated, slower than fp32, so fp32 is taken and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from strokeseg.runtime.base import Note

_CPUINFO = Path("/proc/cpuinfo")
# Flags of Linux's table of processors: x86, then ARM.
_FLAGS = {
    "bf16": {"amx_bf16", "avx512_bf16", "bf16"},
    "fp16": {"amx_fp16", "avx512_fp16", "asimdhp"},
}
_NEEDED = {
    "bf16": "AMX or AVX512-BF16",
    "fp16": "AMX-FP16 or AVX512-FP16",
}


def native_precisions(reported: Iterable[str] = (), cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """What the processor multiplies in by itself.

    Args:
        reported: Names as a runtime reports them, e.g. ``BF16``; taken where the system does not tell.
        cpuinfo: Linux's table of processors.

    Returns:
        ``fp32`` and those of ``bf16``, ``fp16`` that it has.
    """
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                return frozenset({"fp32", *(name for name, any_of in _FLAGS.items() if flags & any_of)})
    names = {name.lower() for name in reported}
    return frozenset({"fp32", *(names & set(_FLAGS))})


def cpu_precision(asked: str, native: frozenset[str]) -> tuple[str, tuple[Note, ...]]:
    """What to compute in on the CPU, and what to say about it.

    Args:
        asked: One of ``fp32``, ``bf16``, ``fp16``.
        native: See `native_precisions`.
    """
    if asked in native:
        return asked, ()
    message = (
        f"The precision {asked} was asked for, but this processor does not multiply in it by itself "
        f"({_NEEDED[asked]}); fp32 was used."
    )
    return "fp32", (Note("precision_not_native", message),)
