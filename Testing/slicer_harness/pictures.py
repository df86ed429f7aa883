"""Pictures of widgets, in a light and a dark palette; every picture says where it was made."""

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

MARK = "made in the test harness"
_COLORS = {
    "light": {"window": "#f0f0f0", "base": "#ffffff", "text": "#1a1a1a", "button": "#e6e6e6", "highlight": "#2a6fb0"},
    "dark": {"window": "#323232", "base": "#262626", "text": "#f0f0f0", "button": "#464646", "highlight": "#4a90d9"},
}


def palette(name: str) -> QtGui.QPalette:
    """The palette `light` or `dark`, near those of Slicer's styles of these names."""
    colors = _COLORS[name]
    role = QtGui.QPalette.ColorRole
    made = QtGui.QPalette()
    for key, roles in (
        ("window", (role.Window, role.ToolTipBase)),
        ("base", (role.Base,)),
        ("button", (role.Button, role.AlternateBase)),
        ("text", (role.WindowText, role.Text, role.ButtonText, role.ToolTipText)),
        ("highlight", (role.Highlight, role.Link)),
    ):
        for one in roles:
            made.setColor(one, QtGui.QColor(colors[key]))
    made.setColor(role.HighlightedText, QtGui.QColor("#ffffff"))
    faint = QtGui.QColor(colors["text"])
    faint.setAlpha(110)
    for one in (role.WindowText, role.Text, role.ButtonText, role.PlaceholderText):
        made.setColor(QtGui.QPalette.ColorGroup.Disabled, one, faint)
    made.setColor(role.PlaceholderText, faint)
    return made


def _layer(image: QtGui.QImage) -> QtGui.QImage:
    """The picture with a strip below it that carries the mark."""
    height = 18
    whole = QtGui.QImage(image.width(), image.height() + height, QtGui.QImage.Format.Format_RGB32)
    whole.fill(QtGui.QColor("#202020"))
    painter = QtGui.QPainter(whole)
    painter.drawImage(0, 0, image)
    painter.setPen(QtGui.QColor("#ffd75f"))
    font = painter.font()
    font.setPixelSize(11)
    painter.setFont(font)
    painter.drawText(
        QtCore.QRect(0, image.height(), image.width() - 4, height),
        int(QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter),
        MARK,
    )
    painter.end()
    return whole


def save(image: QtGui.QImage, path: Path | str) -> Path:
    """Write the marked picture as PNG; raises OSError where that fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    form: Any = "PNG"  # PySide6's stubs ask for bytes, the function for text
    if not _layer(image).save(str(path), form):
        raise OSError(f"{path} could not be written")
    return path


def grab(widget: Any, path: Path | str, *, width: int | None = None, palette_name: str = "light") -> Path:
    """Save a widget as PNG.

    Args:
        widget: A widget as the panel sees it (`qt` object), or the Python widget class of a module.
        path: Where the PNG goes.
        width: Width in pixels before the picture is taken; the height follows from the layout.
        palette_name: `light` or `dark`.
    """
    native = getattr(getattr(widget, "parent", widget), "_native", None) or widget._native
    app = QtWidgets.QApplication.instance()
    app.setStyle("Fusion")  # type: ignore[union-attr]
    before = app.palette()  # type: ignore[union-attr]
    app.setPalette(palette(palette_name))  # type: ignore[union-attr]
    try:
        native.show()
        if width is not None:
            native.setFixedWidth(width)
        for _ in range(3):
            app.processEvents()  # type: ignore[union-attr]
            hint = native.sizeHint()
            native.resize(
                width or max(native.width(), hint.width()), max(hint.height(), native.minimumSizeHint().height())
            )
        app.processEvents()  # type: ignore[union-attr]
        return save(native.grab().toImage(), path)
    finally:
        if width is not None:
            native.setMinimumWidth(0)
            native.setMaximumWidth(16777215)
        app.setPalette(before)  # type: ignore[union-attr]


def cut_texts(widget: Any) -> list[str]:
    """Names and texts of visible labels and buttons that are narrower than their text."""
    native = getattr(getattr(widget, "parent", widget), "_native", None) or widget._native
    found = []
    for child in native.findChildren(QtWidgets.QWidget):
        if not child.isVisible() or not isinstance(child, QtWidgets.QAbstractButton | QtWidgets.QLabel):
            continue
        wraps = isinstance(child, QtWidgets.QLabel) and child.wordWrap()
        if child.text() and not wraps and child.width() < child.minimumSizeHint().width():
            found.append(f"{child.objectName()}: {child.text()}")
    return found
