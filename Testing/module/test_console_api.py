"""``segmentVolumes``: nodes in, nodes out, errors in three parts, nothing left behind."""

import ast
import re
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import plain_mrml as mrml
import psutil
import pytest
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from strokeseg.errors import Cancelled, InputError, StrokeSegError

panel = mrml.panel

ROOT = Path(__file__).resolve().parents[2]
PATIENT = ROOT / "Resources" / "Samples" / "synthetic-patient"


@pytest.fixture(scope="module", autouse=True)
def worker():
    yield
    panel.console_api.closeWorker()


@pytest.fixture(autouse=True)
def scene(slicerEnvironment):
    mrml.start()
    return slicerEnvironment.scene


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where exchange folders go; none is left after a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.glob(f"{panel.exchange.PREFIX}*")) == []


def load(role):
    """A volume node of the synthetic patient, with the voxels as they are in the file."""
    image = nibabel.load(PATIENT / f"{role}.nii.gz")
    array = np.asarray(image.dataobj)
    data, matrix = vtk.vtkImageData(), vtk.vtkMatrix4x4()
    data.SetDimensions(array.shape)
    data.GetPointData().SetScalars(numpy_to_vtk(array.ravel(order="F"), deep=True))
    matrix.DeepCopy(image.affine.ravel().tolist())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", role)
    node.SetAndObserveImageData(data)
    node.SetIJKToRASMatrix(matrix)
    return node


@pytest.fixture
def patient(scene):
    return {role: load(role) for role in ("dwi", "adc")}


def segmentVolumes(**arguments):
    import StrokeSegLib

    return StrokeSegLib.segmentVolumes(**arguments)


def pid():
    return panel.console_api._session._link.greeting["pid"]


def ended(number):
    """Whether a process has ended, with a moment for the system to clear it away."""
    end = time.monotonic() + 5.0
    while psutil.pid_exists(number) and time.monotonic() < end:
        time.sleep(0.01)
    return not psutil.pid_exists(number)


def test_two_volumes_become_a_segmentation_a_table_and_a_probability_map(patient):
    heard = []
    result = segmentVolumes(**patient, model="adc-threshold", progress=lambda *event: heard.append(event))
    assert result.model == "adc-threshold"
    assert list(dict.fromkeys(stage for stage, *_ in heard))[:3] == ["read", "prepare", "model"]
    # The drawn lesions have 23.8 ml; the rule draws large ones too small.
    assert 10.0 < result.volumeMl < 26.0
    assert result.volumeMl == pytest.approx(sum(lesion["volume_ml"] for lesion in result.lesions), abs=1e-4)
    assert result.table.GetNumberOfRows() == len(result.lesions)
    assert result.uncertainty is None
    assert result.seconds["model"] > 0
    segment = result.segmentation.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, segment, patient["dwi"])
    voxel_ml = abs(np.linalg.det(nibabel.load(PATIENT / "dwi.nii.gz").affine)) / 1000.0
    assert mask.sum() * voxel_ml == pytest.approx(result.volumeMl, abs=1e-4)
    assert slicer.util.arrayFromVolume(result.probability).shape == mask.shape


def test_the_options_of_the_engine_pass_through(patient):
    strict = segmentVolumes(**patient, model="adc-threshold", threshold=0.9, min_lesion_ml=1.0)
    loose = segmentVolumes(**patient, model="adc-threshold", threshold=0.3, min_lesion_ml=0.0)
    assert 0 < strict.volumeMl < loose.volumeMl
    assert min(lesion["volume_ml"] for lesion in strict.lesions) >= 1.0


def test_the_worker_is_kept_between_calls_and_ends_when_it_is_closed(patient):
    segmentVolumes(**patient, model="adc-threshold")
    first = pid()
    segmentVolumes(**patient, model="adc-threshold")
    assert pid() == first
    panel.console_api.closeWorker()
    assert ended(first)
    segmentVolumes(**patient, model="adc-threshold")
    assert pid() != first


def test_the_worker_is_not_kept_where_the_user_does_not_want_it(patient, monkeypatch):
    values = {"keepWorker": False, "pythonExecutable": ""}
    monkeypatch.setattr(panel.settings.Settings, "value", lambda self, name: values[name])
    segmentVolumes(**patient, model="adc-threshold")
    assert ended(pid())


def test_no_volume_and_no_volume_node_are_refused(scene):
    with pytest.raises(InputError, match="No volume was given"):
        segmentVolumes()
    with pytest.raises(InputError, match="What was given as 'adc' is no volume") as caught:
        segmentVolumes(adc="ADC")
    assert "getNode('adc')" in caught.value.next_step


def test_errors_of_the_engine_have_their_three_parts(patient):
    for arguments, words in (
        ({"dwi": patient["dwi"], "model": "adc-threshold"}, "adc"),
        ({**patient, "model": "no-such-model"}, "no-such-model"),
        ({**patient, "colour": "red"}, "colour"),
        ({**patient, "model": "adc-threshold", "device": "cuda:7"}, "cuda:7"),
    ):
        with pytest.raises(StrokeSegError) as caught:
            segmentVolumes(**arguments)
        assert all((caught.value.title, caught.value.cause, caught.value.next_step))
        assert words in str(caught.value).lower()


def test_a_transform_that_scales_is_refused(patient):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Larger")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 0, 1.2)
    transform.SetMatrixTransformToParent(matrix)
    patient["adc"].SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="arden"):
        segmentVolumes(**patient, model="adc-threshold")


def test_what_the_progress_callback_raises_cancels_the_run_and_the_next_one_works(patient, monkeypatch):
    link = panel.console_api._session._link
    cancelled, cancel = [], link.cancel
    monkeypatch.setattr(link, "cancel", lambda number: cancelled.append(number) or cancel(number))

    class EnoughError(Exception):
        pass

    def stop(stage, *_):
        if stage == "prepare":
            raise EnoughError

    with pytest.raises(EnoughError):
        segmentVolumes(**patient, model="adc-threshold", progress=stop)
    assert len(cancelled) == 1
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert segmentVolumes(**patient, model="adc-threshold").volumeMl > 0


def test_a_run_that_somebody_else_cancels_is_said_to_be_cancelled(patient):
    def shutdown(stage, *_):
        if stage == "prepare":
            panel.console_api._session._link.shutdown()

    with pytest.raises(Cancelled):
        segmentVolumes(**patient, model="adc-threshold", progress=shutdown)


def test_a_killed_worker_is_an_error_and_the_next_call_works(patient):
    def kill(stage, *_):
        if stage == "prepare":
            psutil.Process(pid()).kill()

    with pytest.raises(StrokeSegError, match="The worker ended while it was working"):
        segmentVolumes(**patient, model="adc-threshold", progress=kill)
    assert segmentVolumes(**patient, model="adc-threshold").volumeMl > 0


def test_a_volume_that_is_removed_during_the_run_is_an_error(patient):
    def remove(stage, *_):
        if stage == "report":
            slicer.mrmlScene.RemoveNode(patient["dwi"])

    with pytest.raises(InputError, match="'dwi' was removed from the scene during the run"):
        segmentVolumes(**patient, model="adc-threshold", progress=remove)


def test_a_scene_that_is_closed_during_the_run_stays_empty(patient):
    def close(stage, *_):
        if stage == "report":
            slicer.mrmlScene.Clear(False)

    with pytest.raises(InputError, match="was removed from the scene"):
        segmentVolumes(**patient, model="adc-threshold", progress=close)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_a_call_from_within_a_call_is_refused(patient):
    errors = []

    def again(stage, *_):
        if stage == "model" and not errors:
            with pytest.raises(InputError) as caught:
                segmentVolumes(**patient)
            errors.append(caught.value.title)

    assert segmentVolumes(**patient, model="adc-threshold", progress=again).volumeMl > 0
    assert errors == ["A run is going on already."]


def test_slicer_answers_during_a_run(patient, monkeypatch):
    turns = []
    monkeypatch.setattr(panel.console_api, "_letSlicerAnswer", lambda: turns.append(1))
    segmentVolumes(**patient, model="adc-threshold")
    assert len(turns) > 20


def pasted(lines):
    """Run lines as Slicer's Python console does."""
    exec(compile("\n".join(lines), "example", "exec"), {"slicer": slicer})


def test_the_example_of_the_documentation_can_be_pasted_into_an_empty_slicer(scene, capsys):
    text = ast.get_docstring(ast.parse(Path(panel.console_api.__file__).read_text(encoding="utf-8")))
    panel.sample_data.register()  # as the module does when Slicer starts
    pasted([line[4:] for line in text.splitlines() if line.startswith("    ")])
    volume, count = re.fullmatch(r"(\d+\.\d) ml in (\d+) lesions", capsys.readouterr().out.strip()).groups()
    # The drawn lesions have 23.8 ml; the network draws around them.
    assert 15.0 < float(volume) < 35.0
    assert int(count) > 0


def test_the_examples_of_the_readmes_can_be_pasted_where_their_volumes_are_loaded(scene, capsys):
    seen = 0
    for readme in (ROOT / "README.md", ROOT / "StrokeSegModule" / "README.md"):
        for block in re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL):
            if "segmentVolumes" not in block:
                continue
            slicer.mrmlScene.Clear()
            panel.sample_data.register()
            for name in re.findall(r"getNode\([\"'](.+?)[\"']\)", block):
                load(next(role for role in ("dwi", "adc", "t1") if role in name.lower())).SetName(name)
            pasted(block.splitlines())
            assert len(panel.result_nodes.results()) == 1
            seen += 1
    assert seen > 0
    assert capsys.readouterr().out.strip()
