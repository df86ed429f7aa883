"""PySide6 doubles of the CTK widgets a panel uses: same properties, slots and signals, plain looks."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

STRING_LIST: Any = "QStringList"
"""PySide6 takes a C++ type's name for a property's type; its stubs do not say so."""


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A heading that folds its children away.

    Sizes and visibility as in commontk/CTK Libs/Widgets/ctkCollapsibleButton.cpp@00d9640: a child that is shown or
    hidden while it is folded away is so when it is unfolded, and is never visible before.
    """

    contentsCollapsed = Signal(bool)
    _SHOWN = "visibilityToParent"

    def __init__(self, *args: Any) -> None:
        super().__init__(args[-1] if args and isinstance(args[-1], QtWidgets.QWidget) else None)
        self._collapsed = False
        self._frame = {
            "contentsFrameShape": 0,
            "contentsFrameShadow": 16,
            "contentsLineWidth": 1,
            "contentsMidLineWidth": 0,
        }
        self._alignment = {"buttonTextAlignment": 0x81, "indicatorAlignment": 0x81}
        self._collapsed_height = 10
        self._forcing = False
        if args and isinstance(args[0], str):
            self.setText(args[0])
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._heading().height(), 0, 0)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self.setBackgroundRole(QtGui.QPalette.ColorRole.Window)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(lambda on: self._fold(not on))

    def _heading(self) -> QtCore.QSize:
        text = self.fontMetrics().size(int(QtCore.Qt.TextFlag.TextShowMnemonic), self.text() or "XXXX")
        return QtCore.QSize(text.width() + 40, max(text.height() + 8, 24))

    def _fold(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setMaximumHeight(self.sizeHint().height() if collapsed else 16777215)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                self._place(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _place(self, child: QtWidgets.QWidget) -> None:
        said = child.property(self._SHOWN)
        self._forcing = True
        child.setVisible(not self._collapsed and said is not False)
        if said is not False:
            # A child that was not hidden by anybody else becomes visible with its parent.
            child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.type() == QtCore.QEvent.Type.ChildAdded and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def event(self, event: QtCore.QEvent) -> bool:
        # CTK hides a child that comes while it is folded away at once; PySide6 has it as a widget only later.
        if self._collapsed and event.type() in (QtCore.QEvent.Type.Polish, QtCore.QEvent.Type.LayoutRequest):
            for child in self.children():
                if isinstance(child, QtWidgets.QWidget) and not child.isHidden():
                    self._place(child)
        return super().event(event)

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if not self._forcing and isinstance(child, QtWidgets.QWidget):
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                child.setProperty(self._SHOWN, True)
                self._place(child)
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                child.setProperty(self._SHOWN, False)
        return False

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)
    collapsedHeight = Property(
        int, lambda self: self._collapsed_height, lambda self, v: setattr(self, "_collapsed_height", v)
    )
    contentsFrameShape = Property(
        int, lambda s: s._frame["contentsFrameShape"], lambda s, v: s._frame.update(contentsFrameShape=int(v))
    )
    contentsFrameShadow = Property(
        int, lambda s: s._frame["contentsFrameShadow"], lambda s, v: s._frame.update(contentsFrameShadow=int(v))
    )
    contentsLineWidth = Property(
        int, lambda s: s._frame["contentsLineWidth"], lambda s, v: s._frame.update(contentsLineWidth=int(v))
    )
    contentsMidLineWidth = Property(
        int, lambda s: s._frame["contentsMidLineWidth"], lambda s, v: s._frame.update(contentsMidLineWidth=int(v))
    )
    buttonTextAlignment = Property(
        int, lambda s: s._alignment["buttonTextAlignment"], lambda s, v: s._alignment.update(buttonTextAlignment=int(v))
    )
    indicatorAlignment = Property(
        int, lambda s: s._alignment["indicatorAlignment"], lambda s, v: s._alignment.update(indicatorAlignment=int(v))
    )

    def _size(self, inner: QtCore.QSize) -> QtCore.QSize:
        heading = self._heading()
        if self._collapsed or self.layout() is None:
            return heading + QtCore.QSize(0, self._collapsed_height)
        return inner.expandedTo(heading)

    def sizeHint(self) -> QtCore.QSize:
        return self._size(QtWidgets.QWidget.sizeHint(self))

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._size(QtWidgets.QWidget.minimumSizeHint(self))

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._heading().height()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._heading().height() - 2)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (option.rect.height() - 10) // 2, 10, 10)
        kind = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(kind.PE_IndicatorArrowRight if self._collapsed else kind.PE_IndicatorArrowDown, arrow)
        painter.drawItemText(
            option.rect.adjusted(22, 0, -4, 0),
            int(QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic),
            self.palette(),
            self.isEnabled(),
            self.text(),
            QtGui.QPalette.ColorRole.ButtonText,
        )
        if self.hasFocus():
            focus = QtWidgets.QStyleOptionFocusRect()
            focus.initFrom(self)
            focus.rect = option.rect.adjusted(2, 2, -2, -2)
            painter.drawPrimitive(kind.PE_FrameFocusRect, focus)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box whose check mark folds it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._collapsed_height = 14
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)

    def _fold(self, on: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(on)
        self.setMaximumHeight(16777215 if on else 30)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, v: self.setChecked(not v))
    collapsedHeight = Property(
        int, lambda self: self._collapsed_height, lambda self, v: setattr(self, "_collapsed_height", v)
    )


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box that show one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    _TICKS = 1_000_000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._spin = QtWidgets.QDoubleSpinBox(self)
        self._slider.setObjectName("Slider")
        self._spin.setObjectName("SpinBox")
        row.addWidget(self._slider)
        row.addWidget(self._spin)
        self._page, self._tick_interval, self._tracking = 10.0, 0.0, True
        self._auto_width, self._popup = True, False
        self._set_range(0.0, 99.0)  # as QSlider and ctkDoubleSlider
        self._spin.valueChanged.connect(self._on_spin)
        self._slider.valueChanged.connect(self._on_slider)
        self._slider.sliderReleased.connect(self._on_released)
        self.setFocusProxy(self._spin)

    def _from_slider(self) -> float:
        step = self._spin.singleStep() or 1.0
        raw = self._spin.minimum() + self._slider.value() * step
        return min(raw, self._spin.maximum())

    def _on_slider(self, _: int) -> None:
        if self._slider.isSliderDown() and not self._tracking:
            self.valueIsChanging.emit(self._from_slider())
        else:
            self._spin.setValue(self._from_slider())

    def _on_released(self) -> None:
        if not self._tracking:
            self._spin.setValue(self._from_slider())

    def _on_spin(self, value: float) -> None:
        self._place()
        self.valueChanged.emit(value)

    def _place(self) -> None:
        step = self._spin.singleStep() or 1.0
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, min(round((self._spin.maximum() - self._spin.minimum()) / step), self._TICKS))
        self._slider.setValue(round((self._spin.value() - self._spin.minimum()) / step))
        self._slider.blockSignals(blocked)

    def _set_range(self, low: float, high: float) -> None:
        self._spin.setRange(low, high)
        self._place()

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def reset(self) -> None:
        self.setValue(0.0)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin.setVisible(visible)

    def _set_step(self, step: float) -> None:
        self._spin.setSingleStep(step)
        self._place()

    def _set_decimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self._place()

    value = Property(float, lambda self: self._spin.value(), setValue, user=True)
    minimum = Property(
        float, lambda self: self._spin.minimum(), lambda self, v: self._set_range(v, max(v, self._spin.maximum()))
    )
    maximum = Property(
        float, lambda self: self._spin.maximum(), lambda self, v: self._set_range(min(v, self._spin.minimum()), v)
    )
    singleStep = Property(float, lambda self: self._spin.singleStep(), _set_step)
    pageStep = Property(float, lambda self: self._page, lambda self, v: setattr(self, "_page", v))
    decimals = Property(int, lambda self: self._spin.decimals(), _set_decimals)
    prefix = Property(str, lambda self: self._spin.prefix(), lambda self, v: self._spin.setPrefix(v))
    suffix = Property(str, lambda self: self._spin.suffix(), lambda self, v: self._spin.setSuffix(v))
    tickInterval = Property(float, lambda self: self._tick_interval, lambda self, v: setattr(self, "_tick_interval", v))
    tickPosition = Property(
        int,
        lambda self: self._slider.tickPosition().value,
        lambda self, v: self._slider.setTickPosition(QtWidgets.QSlider.TickPosition(v)),
    )
    autoSpinBoxWidth = Property(bool, lambda self: self._auto_width, lambda self, v: setattr(self, "_auto_width", v))
    spinBoxAlignment = Property(
        int,
        lambda self: self._spin.alignment().value,
        lambda self, v: self._spin.setAlignment(QtCore.Qt.AlignmentFlag(v)),
    )
    tracking = Property(bool, lambda self: self._tracking, lambda self, v: setattr(self, "_tracking", v))
    spinBoxVisible = Property(bool, lambda self: not self._spin.isHidden(), setSpinBoxVisible)
    popupSlider = Property(bool, lambda self: self._popup, lambda self, v: setattr(self, "_popup", v))
