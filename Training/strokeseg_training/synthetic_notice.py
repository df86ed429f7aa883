"""What every synthetic case says about itself: that nobody was scanned, and whose template the anatomy comes from."""

from __future__ import annotations

STATEMENT = "synthetic: made from the MNI ICBM152 2009a template by simulation, no patient image"
STATEMENT_WITH_MASKS = (
    f"{STATEMENT}; the shapes of some lesions are lesion masks of real patients, deformed, without their images"
)
TEMPLATE_NOTICE = (
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, "
    "McGill University. Permission to use, copy, modify, and distribute this software and its documentation for any "
    "purpose and without fee is hereby granted, provided that the above copyright notice appear in all copies. The "
    "authors and McGill University make no representations about the suitability of this software for any purpose. It "
    'is provided "as is" without express or implied warranty. The authors are not responsible for any data loss, '
    "equipment damage, property loss, or injury to subjects or patients resulting from the use or misuse of this "
    "software package."
)
