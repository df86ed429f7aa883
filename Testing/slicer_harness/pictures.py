"""Pictures of widgets, in a light and a dark palette; every picture says where it was made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

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


@contextmanager
def look(name: str) -> Iterator[None]:
    """Slicer's style with the palette `light` or `dark`, for what is built and shown inside.

    Links in rich text keep the colour of the palette in which they were written, so a panel is built inside.
    """
    app = cast("QtWidgets.QApplication", QtWidgets.QApplication.instance())
    app.setStyle("Fusion")
    before = app.palette()
    app.setPalette(palette(name))
    try:
        yield
    finally:
        app.setPalette(before)


def grab(widget: Any, path: Path | str, *, width: int | None = None, palette_name: str = "light") -> Path:
    """Save a widget as PNG.

    Args:
        widget: A widget as the panel sees it (`qt` object), or the Python widget class of a module.
        path: Where the PNG goes.
        width: Width in pixels before the picture is taken; the height follows from the layout.
        palette_name: `light` or `dark`.
    """
    native = getattr(getattr(widget, "parent", widget), "_native", None) or widget._native
    app = cast("QtWidgets.QApplication", QtWidgets.QApplication.instance())
    with look(palette_name):
        native.show()
        if width is not None:
            native.setFixedWidth(width)
        for _ in range(3):
            app.processEvents()
            wide = width or max(native.width(), native.sizeHint().width())
            high = native.heightForWidth(wide) if native.hasHeightForWidth() else native.sizeHint().height()
            native.resize(wide, max(high, native.minimumSizeHint().height()))
        app.processEvents()
        saved = save(native.grab().toImage(), path)
        if width is not None:
            native.setMinimumWidth(0)
            native.setMaximumWidth(16777215)
        return saved


def cut_texts(widget: Any) -> list[str]:
    """Names and texts of visible widgets that have less room than their text takes; call it after `grab`.

    A combo box may cut the text that is chosen where its tool tip says it in full; a table may be scrolled.
    """
    native = getattr(getattr(widget, "parent", widget), "_native", None) or widget._native
    return [
        f"{child.objectName() or type(child).__name__}: {text}"
        for child in native.findChildren(QtWidgets.QWidget)
        if child.isVisible() and (text := _cut(child))
    ]


def _cut(child: QtWidgets.QWidget) -> str:
    """What is cut; "" where nothing is."""
    parent = child.parentWidget()
    if isinstance(child, QtWidgets.QAbstractButton | QtWidgets.QLabel) and child.text():
        wraps = isinstance(child, QtWidgets.QLabel) and child.wordWrap()
        needed = child.minimumSizeHint()
        high = child.heightForWidth(child.width()) if wraps else needed.height()
        outside = parent is not None and not parent.rect().contains(child.geometry())
        narrow = not wraps and child.width() < needed.width()
        wide = wraps and child.width() < _longest_word(cast("QtWidgets.QLabel", child))
        return child.text() if outside or narrow or wide or child.height() < high else ""
    if isinstance(child, QtWidgets.QComboBox):
        option = QtWidgets.QStyleOptionComboBox()
        child.initStyleOption(option)
        part = QtWidgets.QStyle.SubControl.SC_ComboBoxEditField
        room = child.style().subControlRect(QtWidgets.QStyle.ComplexControl.CC_ComboBox, option, part, child).width()
        text = child.currentText()
        return text if child.fontMetrics().horizontalAdvance(text) > room and text not in child.toolTip() else ""
    if isinstance(child, QtWidgets.QAbstractSpinBox):
        edit = child.lineEdit()
        # QLineEdit keeps two pixels free on either side.
        return edit.text() if child.fontMetrics().horizontalAdvance(edit.text()) + 4 > edit.width() else ""
    if isinstance(child, QtWidgets.QTextBrowser):
        return child.toPlainText() if child.document().size().height() > child.viewport().height() + 1 else ""
    if isinstance(child, QtWidgets.QTableView):
        head = child.horizontalHeader()
        numbers = [n for n in range(head.count()) if not head.isSectionHidden(n)]
        cut = [n for n in numbers if head.sectionSize(n) < head.sectionSizeFromContents(n).width()]
        return ", ".join(str(child.model().headerData(n, QtCore.Qt.Orientation.Horizontal)) for n in cut)
    return ""


def _longest_word(label: QtWidgets.QLabel) -> int:
    document = QtGui.QTextDocument()
    document.setHtml(label.text()) if label.textFormat() != QtCore.Qt.TextFormat.PlainText else document.setPlainText(
        label.text()
    )
    words = document.toPlainText().split() or [""]
    return max(label.fontMetrics().horizontalAdvance(word) for word in words)
