"""Roles of scans, and how a name tells its role: one vocabulary for files, DICOM series and volumes in Slicer.

Names are read word by word: case does not matter, words end at ``_ - . , : / ( ) [ ]``, backslashes and spaces. The
vocabulary covers BIDS suffixes, the ISLES and ATLAS data sets and what scanners of the large vendors call their
series. Standard library only.
"""

from __future__ import annotations

import re

INPUT_ROLES = ("dwi", "adc", "t1", "flair", "b0")

# The exponential ADC (eADC) is exp(-b·ADC): fluid is dark in it, so it must never pass for an ADC map. Predictions of
# any program must never pass for a reference. The rest are field maps, phase images, tissue maps and companions.
_OTHER_THINGS = re.compile(
    r"eadc|expadc|exponential|eapp|pred|predicted|predictions?|prob|probability|probabilities|probseg|uncertainty|entropy"
    r"|overlay|fieldmap|phase|phasediff|sbref|inv[12]?|t1map|wm|gm|csf|tissue|ventricles?|aseg|aparc|affine"
)
_MASK = re.compile(r"\w*mask|msk|labels?|seg|segmentation|gt|groundtruth|truth|annotations?|reference|roi")
_TISSUE_MASK = re.compile(r"dseg")  # BIDS
_LESION = re.compile(r"\w*(lesion|infarct)\w*")
_BRAIN = re.compile(r"brain|brainmask|bet|hdbet|synthstrip|skullstrip|skullstripped")
_WORDS = {
    "adc": re.compile(r"d?adc(map)?\d*|apparent"),
    "b0": re.compile(r"b=?0+|s0|nodif|lowb"),
    "dwi": re.compile(r"(iso|s)?dwi\d*|trace\d*|tracew\d*|diff|diffusion|b=?[1-9]\d{2,3}"),
    "flair": re.compile(r"(t2)?flair\d*|tirm"),
    "t1": re.compile(r"t1(w|wi)?|unit1|(me)?mprage|mpr|mp2rage|f?spgr|bravo"),
}
_HIGH_B = re.compile(r"b=?[1-9]\d{2,3}")
# BIDS entities whose values are free text or name another image's space.
_FREE_ENTITIES = re.compile(r"(?:^|(?<=_))(?:sub|ses|space|run)-[a-z0-9+]+(?:_|$)")


def roles_in_name(name: str) -> tuple[str, ...]:
    """The roles that the words of `name` stand for.

    An ADC map is often named after the DWI it was computed from, a mask after the image it was drawn on: ``adc`` wins
    over ``dwi`` and ``b0``, ``b0`` over ``dwi`` (unless a high b-value is named, too), words for masks over all images.

    Args:
        name: File or folder name without its suffix, name of a volume, description of a series.

    Returns:
        Roles of `INPUT_ROLES`, or ``reference``, or ``brain_mask``; empty for a name that says nothing; more than one
        role when the name is ambiguous.
    """
    words = _words(name)
    if _has(words, _OTHER_THINGS):
        return ()
    if _has(words, _LESION):
        return ("reference",)
    if _has(words, _MASK):
        return ("brain_mask",) if _has(words, _BRAIN) else ("reference",)
    if _has(words, _TISSUE_MASK):
        return ()
    found = {role for role, pattern in _WORDS.items() if _has(words, pattern)}
    if "adc" in found:
        found -= {"dwi", "b0"}
    if {"b0", "dwi"} <= found:
        found.discard("b0" if _has(words, _HIGH_B) else "dwi")
    if "b0" in found and "map" in words:  # a map of the main field
        found.discard("b0")
    return tuple(r for r in INPUT_ROLES if r in found)


def names_no_scan(name: str) -> bool:
    """Whether `name` says that this is a mask, or a map of something that no model takes."""
    words = _words(name)
    return any(_has(words, pattern) for pattern in (_OTHER_THINGS, _LESION, _MASK, _TISSUE_MASK))


def _words(name: str) -> list[str]:
    return [w for w in re.split(r"[_\-.,:/\\()\[\]\s]+", _FREE_ENTITIES.sub("", name.lower())) if w]


def _has(words: list[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(w) for w in words)
