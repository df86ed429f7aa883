"""The input channels that a card may name, and what each is made of. Standard library only.

`strokeseg.prepare.channels` computes them.
"""

from __future__ import annotations

from types import MappingProxyType

CHANNEL_ROLES = MappingProxyType(
    {
        "dwi_ratio": "dwi",
        "adc": "adc",
        "adc_ratio": "adc",
        "dwi_mirror_log_ratio": "dwi",
        "adc_mirror_log_ratio": "adc",
        "t1_mirror_log_ratio": "t1",
        "b0_ratio": "b0",
        "dwi_robust": "dwi",
        "adc_robust": "adc",
        "t1_robust": "t1",
        "dwi_minmax8": "dwi",
        "dwi_slice_minmax": "dwi",
        "adc_slice_minmax": "adc",
        "dwi_zscore": "dwi",
        "adc_zscore": "adc",
        "t1_zscore": "t1",
        "edge_distance_mm": None,
        "height": None,
        "brain": None,
    }
)
"""Name of a channel to the role without which it cannot be computed; None: the brain alone."""
