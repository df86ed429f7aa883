"""What accompanies the scans of a case, what roles are called, and names that every file system takes.

How a name tells its role is `strokeseg.models.roles`, which the panel may import, too.
"""

from __future__ import annotations

import re
import unicodedata

COMPANION_ROLES = ("brain_mask", "reference")
ROLE_TITLES = {
    "dwi": "DWI",
    "adc": "ADC",
    "t1": "T1",
    "flair": "FLAIR",
    "b0": "b = 0",
    "brain_mask": "brain mask",
    "reference": "reference mask",
}


def safe_name(text: str) -> str:
    """`text` as an identifier that every file system takes: letters, digits, ``_ + - .``, at most 80 characters.

    Letters of all scripts stay, so that two folders with Chinese names do not become the same.
    """
    name = re.sub(r"[^\w+\-.]+", "_", unicodedata.normalize("NFC", text))[:80].strip("._")
    # Windows has no files with these names, whatever follows the first dot.
    if re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)", name.split(".")[0], re.IGNORECASE):
        name = f"_{name}"
    return name
