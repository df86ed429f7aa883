"""The PyTorch runtime: the same logits as OpenVINO, devices that are missing, memory that runs out."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import runtime_phantom as phantom
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from strokeseg.errors import DependencyError, MemoryLimitError, ModelError
from strokeseg.models.contents import check_folder
from strokeseg.models.safetensors_header import read_header
from strokeseg.runtime import NumpyAccumulator, choice, open_runtime
from strokeseg.runtime import pytorch as room
from strokeseg.runtime.precision import native_precisions

ENGINE = Path(__file__).resolve().parents[2] / "StrokeSegExtension"

gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NO GPU HERE: what runs on CUDA was not tried in this test run"
)


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch):
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    return phantom.write_model(tmp_path_factory.mktemp("models") / "tiny")


def copied(card, folder):
    folder.mkdir()
    for name in phantom.FILES:
        (folder / name).write_bytes((card.folder / name).read_bytes())
    return relisted(replace(card, folder=folder))


def relisted(card, **changes):
    fields = {"network": card.network, "network_arguments": card.network_arguments, "outputs": list(card.outputs)}
    return phantom.write_card(card.folder, **{**fields, **changes})


# --- the same logits


@pytest.mark.parametrize("shape", [(1, 2, 16, 12, 10), (3, 2, 8, 8, 8), (1, 2, 2, 2, 2), (1, 2, 2, 32, 6)])
def test_both_runtimes_agree_in_fp32(card, shape):
    ours, theirs = (open_runtime(card, runtime=name) for name in ("torch", "openvino"))
    values = phantom.batch(shape)
    expected = theirs.run(values)
    logits = ours.run(values)
    assert list(logits) == ["lesion", "tissue"]
    for name, tensor in logits.items():
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor, expected[name], atol=1e-3)
    # Agreement of zeros would say nothing.
    assert shape[2:] == (2, 2, 2) or np.abs(expected["lesion"]).max() > 1


@pytest.mark.parametrize("precision", sorted(native_precisions() - {"fp32"}))
def test_half_precisions_are_close_to_fp32_but_not_the_same(card, precision):
    values = phantom.batch()
    expected = open_runtime(card, runtime="torch").run(values)["lesion"]
    for name in ("torch", "openvino"):
        runtime = open_runtime(card, runtime=name, precision=precision)
        assert runtime.precision == precision
        difference = np.abs(runtime.run(values)["lesion"] - expected).max()
        # 8 bits of a number in bf16, 11 in fp16; logits reach 8.
        assert 1e-5 < difference < {"bf16": 0.3, "fp16": 0.04}[precision], name


def test_a_precision_that_the_processor_lacks_becomes_fp32_with_a_note(card, monkeypatch):
    monkeypatch.setattr(room, "native_precisions", lambda: frozenset({"fp32"}))
    runtime = open_runtime(card, runtime="torch", precision="bf16")
    assert runtime.precision == "fp32"
    assert [n.code for n in runtime.notes] == ["precision_not_native"]
    np.testing.assert_array_equal(
        runtime.run(phantom.batch())["lesion"], open_runtime(card, runtime="torch").run(phantom.batch())["lesion"]
    )


def test_the_threads_are_those_asked_for(card):
    one, two = (open_runtime(card, runtime="torch", threads=n) for n in (1, 2))
    two.run(phantom.batch())
    assert torch.get_num_threads() == 2
    one.run(phantom.batch())
    assert torch.get_num_threads() == 1


def test_the_threads_are_those_asked_for_also_where_another_thread_opened_it(card):
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as pool:
        runtime = pool.submit(open_runtime, card, runtime="torch", threads=2).result()
    runtime.run(phantom.batch())
    assert torch.get_num_threads() == 2


def test_weights_in_bfloat16_are_read_by_both(card, tmp_path):
    """The store takes them in, so both must run them."""
    mine = copied(card, tmp_path / "tiny")
    weights, graph = (mine.folder / name for name in phantom.FILES)
    names = {tensor.begin: name for name, tensor in read_header(weights).items()}
    save_tensors({name: tensor.bfloat16() for name, tensor in load_tensors(weights).items()}, weights)
    places = read_header(weights)
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        pointer = {entry.key: entry for entry in tensor.external_data}
        if pointer:
            assert tensor.data_type == onnx.TensorProto.FLOAT16
            tensor.data_type = onnx.TensorProto.BFLOAT16
            pointer["offset"].value = str(places[names[int(pointer["offset"].value)]].begin)
    onnx.save(model, graph)
    mine = relisted(mine)
    check_folder(mine.folder)
    expected = open_runtime(card).run(phantom.batch())["lesion"]
    found = [open_runtime(mine, runtime=name).run(phantom.batch())["lesion"] for name in ("openvino", "torch")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    # 8 bits of a number instead of 11; logits reach 8.
    assert 1e-4 < np.abs(found[0] - expected).max() < 0.3


def test_a_read_only_batch_is_taken_without_a_warning_and_not_written(card):
    values = phantom.batch()
    kept = values.copy()
    values.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_runtime(card, runtime="torch").run(values)
    np.testing.assert_array_equal(values, kept)


def test_a_network_of_monai_runs(tmp_path):
    pytest.importorskip("monai")
    from strokeseg.networks import build

    arguments = {"spatial_dims": 3, "in_channels": 2, "out_channels": 1, "init_filters": 8}
    torch.manual_seed(3)
    network = build("monai:SegResNet", **arguments).eval()
    folder = tmp_path / "segresnet"
    folder.mkdir()
    save_tensors({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "weights.safetensors")
    card = phantom.write_card(
        folder, files=["weights.safetensors"], network="monai:SegResNet", network_arguments=arguments, runtime="torch",
        runtime_reason="made by a test",
    )  # fmt: skip
    values = phantom.batch((1, 2, 16, 8, 8))
    with torch.inference_mode():
        expected = network(torch.from_numpy(values)).numpy()
    runtime = open_runtime(card)
    assert runtime.name == "torch"
    np.testing.assert_allclose(runtime.run(values)["lesion"], expected, atol=1e-6)


# --- windows that add up on the device


def test_windows_on_the_device_add_up_as_in_memory(card):
    runtime = open_runtime(card, runtime="torch")
    volume = phantom.batch((1, 2, 12, 8, 6))
    positions = [(0, 0, 0), (4, 0, 0), (4, 0, 2)]
    weight = np.random.default_rng(1).uniform(0.1, 1.0, (8, 8, 4)).astype(np.float32)
    windows = np.concatenate([volume[:, :, x : x + 8, :, z : z + 4] for x, _, z in positions])
    on_device, in_memory = runtime.accumulator((12, 8, 6), 4), NumpyAccumulator((12, 8, 6), 4)
    tensors = runtime.run_on_device(windows)
    assert isinstance(tensors["tissue"], torch.Tensor)
    on_device.add(tensors["tissue"], positions, weight)
    in_memory.add(runtime.run(windows)["tissue"], positions, weight)
    first, second = on_device.result(-5.0), in_memory.result(-5.0)
    np.testing.assert_allclose(first, second, atol=1e-5)
    # Voxels x < 4, z >= 4 lie in no window.
    assert (first[:, :4, :, 4:] == -5.0).all()
    assert (first != -5.0).sum() == first.size - 4 * 4 * 8 * 2


def test_a_window_that_reaches_beyond_the_map_is_an_error(card):
    total = open_runtime(card, runtime="torch").accumulator((4, 4, 4), 1)
    with pytest.raises(ValueError, match="beyond"):
        total.add(torch.zeros(1, 1, 2, 2, 2), [(-1, 0, 0)], np.ones((2, 2, 2), np.float32))


# --- memory


def test_a_map_beyond_all_memory_is_told_so(card):
    with pytest.raises(MemoryLimitError) as caught:
        open_runtime(card, runtime="torch").accumulator((200_000, 200_000, 200_000), 1)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("way", ["run", "run_on_device"])
def test_memory_that_runs_out_is_told_so_and_the_runtime_lives_on(card, monkeypatch, error, way):
    runtime = open_runtime(card, runtime="torch")
    expected = runtime.run(phantom.batch())["lesion"]

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(room, "named", fail)
        with pytest.raises(MemoryLimitError, match="'cpu'"):
            getattr(runtime, way)(phantom.batch())
    np.testing.assert_array_equal(runtime.run(phantom.batch())["lesion"], expected)


def test_another_failure_of_the_library_is_no_lack_of_memory(card, monkeypatch):
    runtime = open_runtime(card, runtime="torch")

    def fail(*_):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(room, "named", fail)
    with pytest.raises(ModelError, match="CUDNN_STATUS"):
        runtime.run(phantom.batch())


def test_a_closed_runtime_holds_no_network(card):
    runtime = open_runtime(card, runtime="torch")
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.run(phantom.batch())


# --- what it refuses


@pytest.mark.parametrize("shape", [(1, 3, 8, 8, 8), (2, 8, 8, 8), (1, 2, 9, 8, 8)])
def test_a_batch_that_does_not_fit_is_refused(card, shape):
    with pytest.raises(ModelError, match="cannot take"):
        open_runtime(card, runtime="torch").run(phantom.batch(shape))


def test_a_missing_weight_is_named(card, tmp_path):
    mine = copied(card, tmp_path / "tiny")
    path = mine.folder / "weights.safetensors"
    weights = load_file(path)
    del weights["heads.tissue.bias"]
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"heads\.tissue\.bias"):
        open_runtime(relisted(mine), runtime="torch")


def test_a_network_without_the_cards_head_is_refused(card, tmp_path):
    mine = phantom.write_model(tmp_path / "one-head", tissue=False)
    with pytest.raises(ModelError, match="no output 'tissue'"):
        open_runtime(replace(mine, outputs=("lesion", "tissue")), runtime="torch")


def test_a_network_with_other_channels_than_the_card_is_refused(card):
    three = replace(card, preparation=replace(card.preparation, channels=("dwi_ratio", "adc", "height")))
    with pytest.raises(ModelError, match="takes 2 channels, the card names 3"):
        open_runtime(three, runtime="torch")


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", b"", b"PK\x03\x04 a zip, as PyTorch writes them"])
def test_weights_in_another_format_are_refused(card, tmp_path, content):
    mine = copied(card, tmp_path / "tiny")
    (mine.folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="no safetensors file"):
        open_runtime(relisted(mine), runtime="torch")


def test_weights_that_are_no_numbers_are_refused(card, tmp_path):
    mine = copied(card, tmp_path / "tiny")
    path = mine.folder / "weights.safetensors"
    weights = load_file(path)
    weights["heads.lesion.bias"][:] = np.nan
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"'heads\.lesion\.bias' in it holds NaN"):
        open_runtime(relisted(mine), runtime="torch")


# --- devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda:0", "cuda", "cuda:7"])
def test_a_gpu_that_is_not_there_is_a_missing_device(card, device):
    with pytest.raises(DependencyError, match="cannot be used") as caught:
        open_runtime(card, device)
    assert caught.value.exit_code == 5
    assert "PyTorch" in caught.value.cause


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an Apple GPU here")
def test_an_apple_gpu_that_is_not_there_is_a_missing_device(card):
    with pytest.raises(DependencyError, match="'mps' cannot be used"):
        open_runtime(card, "mps")


def test_a_gpu_number_beyond_those_there_is_refused(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(DependencyError, match="There are 2 GPUs"):
        open_runtime(card, "cuda:2")


@pytest.mark.parametrize(
    ("device", "runtime", "cause"),
    [
        ("auto", "torch", "a model without graph (it draws boxes)"),
        ("cpu", "torch", "a model without graph (it draws boxes)"),
        ("cuda:0", "torch", "No NVIDIA GPU was found"),
        ("cuda:0", "openvino", "No NVIDIA GPU was found"),
        ("mps", "openvino", "the device 'mps'"),
    ],
)
def test_without_pytorch_what_needs_it_names_the_command_that_installs_it(
    card, monkeypatch, tmp_path, device, runtime, cause
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "strokeseg.runtime.pytorch", raising=False)
    needs = replace(card, runtime=runtime, runtime_reason="it draws boxes")
    with pytest.raises(DependencyError, match="pip install") as caught:
        open_runtime(needs, device)
    assert caught.value.exit_code == 5
    assert cause in caught.value.cause


def test_auto_takes_the_gpu_only_where_pytorch_can_use_it_for_this_model(card, monkeypatch):
    opened = []
    monkeypatch.setattr(choice, "_torch", lambda _, device, *__: opened.append(device) or SimpleNamespace(name="gpu"))
    monkeypatch.setattr(choice, "_nvidia_gpu_is_there", lambda: True)
    monkeypatch.setattr(choice.metadata, "version", lambda _: "2.13.0+cu130")
    monkeypatch.setattr(room, "has_cuda", lambda: False)
    assert open_runtime(card).name == "openvino"
    monkeypatch.setattr(room, "has_cuda", lambda: True)
    assert open_runtime(card).name == "gpu"
    assert open_runtime(card, runtime="torch").name == "gpu"
    assert open_runtime(card, runtime="openvino").name == "openvino"
    assert open_runtime(replace(card, network="graph")).name == "openvino"
    assert open_runtime(card, "cpu").name == "openvino"
    assert opened == ["cuda:0", "cuda:0"]


def test_auto_does_not_import_pytorch_to_find_no_gpu(card, tmp_path):
    code = f"""
import sys
from pathlib import Path
from strokeseg.models import read_card
from strokeseg.runtime import choice, open_runtime
choice.metadata.version = lambda _: "2.13.0+cu130"
print(open_runtime(read_card(Path({str(card.folder)!r}))).name, "torch" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "openvino False", done.stderr


# --- on a GPU


@gpu
def test_the_gpu_gives_the_logits_of_the_cpu(card):
    values = phantom.batch()
    expected = open_runtime(card, "cpu").run(values)["lesion"]
    runtime = open_runtime(card, "cuda:0")
    assert (runtime.name, runtime.device) == ("torch", "cuda:0")
    np.testing.assert_allclose(runtime.run(values)["lesion"], expected, atol=1e-3)


@gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_gpu_gives_the_probabilities_of_the_cpu_in_half_precision(card, precision):
    values = phantom.batch()
    expected = open_runtime(card, "cpu").run(values)["lesion"]
    logits = open_runtime(card, "cuda:0", precision=precision).run(values)["lesion"]
    limit = {"fp16": 1e-2, "bf16": 5e-2}[precision]
    assert np.abs(1 / (1 + np.exp(-logits)) - 1 / (1 + np.exp(-expected))).max() < limit


@gpu
def test_the_gpu_gives_the_same_bytes_every_time(card):
    runtime = open_runtime(card, "cuda:0")
    first, second = (runtime.run(phantom.batch())["lesion"].tobytes() for _ in range(2))
    assert first == second


@gpu
def test_memory_that_runs_out_on_the_gpu_is_told_so_and_the_runtime_lives_on(card):
    runtime = open_runtime(card, "cuda:0")
    with pytest.raises(MemoryLimitError, match="'cuda:0'"):
        runtime.accumulator((20_000, 20_000, 20_000), 4)
    assert runtime.run(phantom.batch())["lesion"].shape == (1, 1, 16, 12, 10)
    assert runtime.free_memory_bytes() > 2**20
