"""The synthetic patient: offered in Sample Data, loaded from the extension's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plain_mrml as mrml
import pytest
import slicer

from strokeseg.resources import resource_path
from strokeseg.volume import read_volume

panel = mrml.panel


@pytest.fixture(autouse=True)
def _slicer(slicerEnvironment: Any) -> None:
    mrml.start()


def test_the_patient_is_offered_once_and_loads_without_a_download() -> None:
    import SampleData

    panel.sample_data.register()
    sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("StrokeSeg")
    assert len(sources) == 1
    assert all(uri.startswith("file:///") for uri in sources[0].uris)
    assert Path(sources[0].thumbnailFileName).is_file()
    # Slicer keeps the copies of all modules' samples in one folder and takes a copy whose checksum is right.
    assert len(set(sources[0].fileNames)) == 3
    assert all(name.startswith("StrokeSeg") for name in sources[0].fileNames)
    assert all(len(checksum) == len("SHA256:") + 64 for checksum in sources[0].checksums)
    nodes = SampleData.downloadSamples("StrokeSegSyntheticPatient")
    assert [node.GetName() for node in nodes] == ["synthetic DWI", "synthetic ADC", "synthetic T1"]


def test_checksums_are_those_of_the_files() -> None:
    import hashlib

    import SampleData

    panel.sample_data.register()
    source = SampleData.SampleDataLogic().sourceForSampleName("StrokeSegSyntheticPatient")
    folder = resource_path("Samples", "synthetic-patient")
    for role, checksum in zip(("dwi", "adc", "t1"), source.checksums, strict=True):
        assert checksum == f"SHA256:{hashlib.sha256((folder / f'{role}.nii.gz').read_bytes()).hexdigest()}"


def test_the_patient_lies_where_the_engine_reads_it() -> None:
    for role, node in panel.sample_data.load().items():
        volume = read_volume(resource_path("Samples", "synthetic-patient", f"{role}.nii.gz"))
        array = panel.placement.ontoGridOf(node, volume.array, volume.affine)
        np.testing.assert_allclose(panel.placement.arrayOf(node), array, rtol=1e-6)


def test_the_volumes_say_that_they_are_simulated_and_with_which_b_value() -> None:
    nodes = panel.sample_data.load()
    assert set(nodes) == {"dwi", "adc", "t1"}
    assert all(node.GetAttribute("StrokeSeg.Synthetic") == role for role, node in nodes.items())
    assert panel.roles.bValue(nodes["dwi"]) == 1000.0
    assert panel.roles.bValue(nodes["adc"]) is None


def test_saving_the_scene_does_not_write_into_the_extension() -> None:
    assert all(node.GetStorageNode() is None for node in panel.sample_data.load().values())
    assert panel.result_nodes.nodesOf("vtkMRMLVolumeArchetypeStorageNode") == []


def test_loading_twice_gives_the_same_volumes() -> None:
    first = panel.sample_data.load()
    slicer.mrmlScene.RemoveNode(first["adc"])
    second = panel.sample_data.load()
    assert second["dwi"] is first["dwi"]
    assert second["adc"].GetScene() is slicer.mrmlScene
    assert len(panel.result_nodes.nodesOf("vtkMRMLScalarVolumeNode")) == 3


def test_the_patient_loads_from_a_folder_with_letters_of_all_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import SampleData

    place = tmp_path / "Ärzte 空 x"
    shutil.copytree(resource_path("Samples", "synthetic-patient"), place / "Samples" / "synthetic-patient")
    for name in ("Models", "Screenshots", "Terminologies"):
        shutil.copytree(resource_path(name), place / name)
    monkeypatch.setenv("STROKESEG_RESOURCES", str(place))
    panel.sample_data.register()
    assert "%" in SampleData.SampleDataLogic().sourceForSampleName("StrokeSegSyntheticPatient").uris[0]
    assert len(SampleData.downloadSamples("StrokeSegSyntheticPatient")) == 3
    assert len(panel.sample_data.load()) == 3
    panel.terminology.loadTerminologies()


def test_the_panel_guesses_the_patients_roles_and_has_nothing_against_them() -> None:
    nodes = panel.sample_data.load()
    assert panel.roles.guessAll(nodes.values()) == nodes
    lines = panel.roles.inputFindings(nodes)
    assert all(severity != "error" for severity, _sentence in lines.values())
