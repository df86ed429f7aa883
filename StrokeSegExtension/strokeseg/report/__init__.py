"""What people look at: the overlay picture and the HTML page.

Everything comes in as plain arrays and dictionaries. Imports `strokeseg.errors`, `strokeseg.volume`, numpy and jinja2;
Pillow only when a picture is drawn.
"""

from __future__ import annotations

from strokeseg.report.overlay import draw_overlay
from strokeseg.report.page import render_page, title_lines

__all__ = ["draw_overlay", "render_page", "title_lines"]
