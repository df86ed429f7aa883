"""Texts into widgets: hidden where there is nothing to say, untouched where nothing has changed."""

from __future__ import annotations

from html import escape
from typing import Any


def say(label: Any, text: str) -> None:
    """A label's text."""
    if label.text != text:
        label.text = text
    show(label, bool(text))


def write(browser: Any, html: str) -> None:
    """A text browser's content; a selection in it stays while it is the same."""
    if browser.property("strokesegText") != html:
        browser.setProperty("strokesegText", html)
        browser.setHtml(html)
        browser.updateGeometry()
    show(browser, bool(html))


def show(widget: Any, visible: bool) -> None:
    """Show or hide; nothing where it was told so already."""
    # Whether it is hidden says nothing: in a section that is folded away everything is.
    if widget.property("strokesegShown") != visible:
        widget.setProperty("strokesegShown", visible)
        widget.setVisible(visible)


def threeParts(title: str, cause: str, nextStep: str) -> str:
    """An error as HTML."""
    return f"<b>{escape(title)}</b><br>{escape(cause)}<br>{escape(nextStep)}"


def paragraphs(texts: list[str]) -> str:
    """Sentences as HTML."""
    return "<br>".join(escape(text) for text in texts)
