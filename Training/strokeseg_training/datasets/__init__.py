"""Data sets of real patients: which files belong to whom, and on which side of a split a patient is.

`files` walks through folders, `bids` and `atlas_r1` know the layouts, `finding` puts them together, `splits` splits,
`phantom` makes small patients for tests. Nothing here reads a voxel. Imports the engine's `case` and `errors`.
"""

from __future__ import annotations

from strokeseg_training.datasets.finding import find_patients, without
from strokeseg_training.datasets.patients import Found, Patient, Problem, UnusablePatients
from strokeseg_training.datasets.splits import Member, Split, read_split, split_patients, write_split

__all__ = [
    "Found",
    "Member",
    "Patient",
    "Problem",
    "Split",
    "UnusablePatients",
    "find_patients",
    "read_split",
    "split_patients",
    "without",
    "write_split",
]
