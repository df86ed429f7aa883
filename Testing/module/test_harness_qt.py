"""The test double's `qt` behaves like PythonQt: what is refused in Slicer is refused here."""

import sys
from functools import partial
from typing import Any

import pytest


def test_a_property_is_an_attribute_and_cannot_be_called(slicerEnvironment: Any) -> None:
    import qt

    button = qt.QPushButton("Run")
    button.toolTip = "why"
    assert (button.text, button.toolTip, button.checked) == ("Run", "why", False)
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_names_slicer_does_not_have_raise(slicerEnvironment: Any) -> None:
    import qt

    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="no attribute named 'colour'"):
        button.colour  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        button.colour = "red"
    with pytest.raises(AttributeError, match="can not be overwritten"):
        button.clicked = print
    with pytest.raises(AttributeError, match="does not accept"):
        button.text = 3


@pytest.mark.parametrize(
    "name",
    [
        "QProcess.startCommand",
        "QCheckBox.checkStateChanged",
        "Qt.AlignmentFlag",
        "QPermissions",
        "Signal",
        "QByteArray.toStdString",
    ],
)
def test_names_that_only_qt_6_or_only_pyside_has_raise(slicerEnvironment: Any, name: str) -> None:
    import qt

    with pytest.raises(AttributeError):
        eval(f"qt.{name}", {"qt": qt})


def test_qt_functions_take_no_keyword_arguments(slicerEnvironment: Any) -> None:
    import qt

    with pytest.raises(TypeError, match="no keyword arguments"):
        qt.QPushButton(text="Run")
    with pytest.raises(TypeError, match="no keyword arguments"):
        qt.QPushButton().setText(text="Run")
    with pytest.raises(TypeError, match="no keyword arguments"):
        qt.QTimer().connect(signal="timeout()", slot=print)


def test_enumerations_are_integers_and_combine(slicerEnvironment: Any) -> None:
    import qt

    assert isinstance(qt.QProcess.Running, int)
    assert qt.QProcess().state() == qt.QProcess.NotRunning == 0
    label = qt.QLabel("a")
    label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    assert label.alignment == 0x82
    label.alignment = qt.Qt.AlignLeft
    assert label.alignment == 1


def test_lists_come_back_as_tuples(slicerEnvironment: Any) -> None:
    import qt

    parent = qt.QWidget()
    child = qt.QLabel("a", parent)
    assert parent.children() == (child,)
    assert qt.QFileInfo("/tmp").dir().entryList().__class__ is tuple


def test_the_wrapper_of_an_object_is_the_same_while_it_is_held(slicerEnvironment: Any) -> None:
    import qt

    parent = qt.QWidget()
    child = qt.QLabel("a", parent)
    child.name = "one"
    assert parent.findChild(qt.QLabel, "one") is child
    assert child.parent() is parent
    assert type(child) is qt.QLabel
    assert not isinstance(child, qt.QWidget)  # PythonQt gives every wrapper class the same single base
    assert child.inherits("QWidget")


def test_a_destroyed_object_raises_and_is_false(slicerEnvironment: Any) -> None:
    import qt

    parent = qt.QWidget()
    child = qt.QLabel("a", parent)
    parent.delete()
    assert not child
    with pytest.raises(ValueError, match="destroyed QLabel"):
        child.text  # noqa: B018 - reading it is the test
    with pytest.raises(ValueError, match="destroyed QLabel"):
        child.setText("b")
    with pytest.raises(ValueError, match="destroyed QWidget"):
        qt.QVBoxLayout(parent)


def test_old_style_connection_checks_the_signature(slicerEnvironment: Any) -> None:
    import qt

    button, seen = qt.QPushButton(), []
    assert button.connect("clicked(bool)", seen.append)
    button.click()
    assert seen == [False]
    assert button.disconnect("clicked(bool)", seen.append)
    button.click()
    assert seen == [False]
    with pytest.raises(ValueError, match="'pressed\\(bool\\)' does not exist"):
        button.connect("pressed(bool)", print)
    with pytest.raises(ValueError, match="does not exist"):
        qt.QProcess().connect("finished(int,ExitStatus)", print)


def test_a_slot_gets_as_many_arguments_as_it_declares(slicerEnvironment: Any) -> None:
    import qt

    class Receiver:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def none(self) -> None:
            self.seen.append("none")

        def optional(self, index: int = -1) -> None:
            self.seen.append(index)

    combo, receiver = qt.QComboBox(), Receiver()
    combo.addItem("a")
    combo.addItem("b")
    combo.connect("currentIndexChanged(int)", receiver.none)
    combo.connect("currentIndexChanged(int)", receiver.optional)
    combo.currentIndexChanged.connect(lambda *everything: receiver.seen.append(everything))
    combo.connect("currentIndexChanged(int)", partial(receiver.seen.append))
    combo.currentIndex = 1
    assert receiver.seen == ["none", 1, (1,), 1]


def test_an_exception_in_a_slot_does_not_come_back_but_is_kept(slicerEnvironment: Any) -> None:
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert [type(e) for e in slicerEnvironment.takeUnhandled()] == [ZeroDivisionError]


def test_a_process_gives_byte_arrays(slicerEnvironment: Any) -> None:
    import qt

    process, out, ended = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: out.append(process.readAllStandardOutput()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "print(input())"])
    with pytest.raises(ValueError, match="takes bytes"):
        process.write("text\n")
    process.write("Ä\n".encode())
    slicerEnvironment.waitUntil(lambda: bool(ended), 20)
    assert b"".join(part.data() for part in out).decode().strip() == "Ä"
    assert ended == [(0, qt.QProcess.NormalExit)]
    with pytest.raises(TypeError):
        bytes(out[0])


def test_a_single_shot_timer_is_the_static_function(slicerEnvironment: Any) -> None:
    import qt

    seen: list[int] = []
    qt.QTimer.singleShot(0, lambda: seen.append(1))
    slicerEnvironment.waitUntil(lambda: bool(seen), 5)
    timer = qt.QTimer()
    timer.setSingleShot(True)
    assert timer.isSingleShot()
    with pytest.raises(AttributeError, match="can not be overwritten"):
        timer.singleShot = True


def test_a_python_class_reimplements_virtual_functions(slicerEnvironment: Any) -> None:
    import qt

    class Target(qt.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.paths: list[str] = []
            self.setAcceptDrops(True)

        def dragEnterEvent(self, event: Any) -> None:
            event.acceptProposedAction()

        def dropEvent(self, event: Any) -> None:
            self.paths += [url.toLocalFile() for url in event.mimeData().urls()]

    target = Target()
    assert slicerEnvironment.dropFiles(target, ["/a b/dwi.nii.gz"])
    assert target.paths == ["/a b/dwi.nii.gz"]
    assert not slicerEnvironment.dropFiles(qt.QWidget(), ["/x"])


def test_an_event_filter_sees_events_and_calls_the_unbound_base(slicerEnvironment: Any) -> None:
    import qt

    class Filter(qt.QObject):
        def __init__(self) -> None:
            super().__init__()
            self.kinds: list[int] = []

        def eventFilter(self, watched: Any, event: Any) -> bool:
            self.kinds.append(event.type())
            return qt.QObject.eventFilter(self, watched, event)

    watch, button = Filter(), qt.QPushButton()
    button.installEventFilter(watch)
    button.show()
    assert qt.QEvent.Show in watch.kinds


def test_an_unplanned_dialog_raises_and_a_planned_one_answers(slicerEnvironment: Any) -> None:
    import qt
    from slicer_harness import dialogs

    with pytest.raises(dialogs.DialogWouldBlockError, match="getOpenFileNames"):
        qt.QFileDialog.getOpenFileNames(None, "Load", "")
    dialogs.plan("QFileDialog.getOpenFileNames", ["/a.nii", "/b.nii"])
    assert qt.QFileDialog.getOpenFileNames(None, "Load", "") == ("/a.nii", "/b.nii")
    with pytest.raises(dialogs.DialogWouldBlockError, match="QMessageBox\\.exec"):
        qt.QMessageBox().exec_()


def test_python_functions_are_no_arguments_of_qt_functions(slicerEnvironment: Any) -> None:
    import qt

    with pytest.raises(ValueError, match="takes no Python function"):
        qt.QMenu().addAction("Open", lambda: None)
