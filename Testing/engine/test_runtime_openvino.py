"""The OpenVINO runtime: what it computes, what it refuses, and its cache of compiled networks."""

import os
import pickle
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import runtime_phantom as phantom
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file

from strokeseg.errors import DependencyError, MemoryLimitError, ModelError
from strokeseg.runtime import KeptRuntimes, NumpyAccumulator, open_runtime
from strokeseg.runtime import openvino as room
from strokeseg.runtime.openvino import OpenVinoRuntime
from strokeseg.runtime.precision import native_precisions

ENGINE = Path(__file__).resolve().parents[2] / "StrokeSegExtension"


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch, tmp_path):
    monkeypatch.setenv("STROKESEG_THREADS", "1")
    monkeypatch.setenv("STROKESEG_HOME", str(tmp_path / "strokeseg-home"))
    monkeypatch.delenv("STROKESEG_COMPILED_CACHE", raising=False)


@pytest.fixture
def card(tmp_path):
    return phantom.write_model(tmp_path / "tiny")


def small_graph(folder, nodes, outputs=("lesion",), channels=2, constants=(), opsets=(("", 18),)):
    """A bare graph: input (n, channels, x, y, z)."""
    folder.mkdir()
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", channels, "x", "y", "z"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets], ir_version=9)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    return phantom.write_card(folder, files=["network.onnx"], network="graph")


SUM = [
    helper.make_node("Constant", [], ["axis"], value=helper.make_tensor("a", TensorProto.INT64, [1], [1])),
    helper.make_node("ReduceSum", ["input", "axis"], ["lesion"], keepdims=1),
]


# --- what it computes


def test_a_graph_gives_the_logits_that_it_says(tmp_path):
    runtime = open_runtime(small_graph(tmp_path / "sum", SUM))
    values = phantom.batch((2, 2, 3, 4, 5))
    assert (runtime.name, runtime.device, runtime.precision) == ("openvino", "cpu", "fp32")
    np.testing.assert_allclose(runtime.run(values)["lesion"], values.sum(axis=1, keepdims=True), atol=1e-6)


def test_a_norm_over_a_large_volume_is_right_and_the_same_on_any_number_of_threads(tmp_path):
    """The library's own sum of so many voxels is off, by the more the fewer threads share it."""
    scale, bias = (
        helper.make_tensor(name, TensorProto.FLOAT, [2], values)
        for name, values in (("scale", [1.0, -2.0]), ("bias", [0.5, 3.0]))
    )
    norm = helper.make_node("InstanceNormalization", ["input", "scale", "bias"], ["lesion"], epsilon=1e-5)
    card = small_graph(tmp_path / "norm", [norm], constants=[scale, bias])
    values = (phantom.batch((1, 2, 96, 96, 96)) ** 2 + 3.0).astype(np.float32)
    exact = values.astype(np.float64)
    middle, spread = exact.mean((2, 3, 4), keepdims=True), exact.var((2, 3, 4), keepdims=True)
    exact = (exact - middle) / np.sqrt(spread + 1e-5) * np.array([1.0, -2.0]).reshape(2, 1, 1, 1) + np.array(
        [0.5, 3.0]
    ).reshape(2, 1, 1, 1)
    found = [OpenVinoRuntime(card, threads=n)._infer(values)["lesion"] for n in (1, 2, 3)]
    np.testing.assert_allclose(found[0], exact, atol=2e-5)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_logits_are_named_as_in_the_card_and_of_every_size(card):
    runtime = open_runtime(card)
    for shape in ((1, 2, 16, 12, 10), (3, 2, 8, 8, 8), (1, 2, 2, 2, 2)):
        logits = runtime.run(phantom.batch(shape))
        assert list(logits) == ["lesion", "tissue"]
        assert logits["lesion"].shape == (shape[0], 1, *shape[2:])
        assert logits["tissue"].shape == (shape[0], 4, *shape[2:])
        assert all(v.dtype == np.float32 for v in logits.values())


def test_the_logits_stay_when_the_runtime_runs_again(card):
    runtime = open_runtime(card)
    first = runtime.run(phantom.batch(seed=1))["lesion"]
    kept = first.copy()
    runtime.run(phantom.batch(seed=2))
    np.testing.assert_array_equal(first, kept)


def test_a_batch_that_is_read_only_or_not_contiguous_is_taken(card):
    runtime = open_runtime(card)
    values = phantom.batch((1, 2, 8, 10, 12))
    expected = runtime.run(values)["lesion"]
    frozen = values.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(runtime.run(frozen)["lesion"], expected)
    np.testing.assert_array_equal(runtime.run(np.asfortranarray(values))["lesion"], expected)
    np.testing.assert_array_equal(runtime.run(values.astype(np.float64))["lesion"], expected)


def test_the_same_batch_gives_the_same_bytes_in_another_runtime(card):
    values = phantom.batch()
    first, second = (open_runtime(card).run(values) for _ in range(2))
    assert first["lesion"].tobytes() == second["lesion"].tobytes()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_slices_run_side_by_side_give_what_they_give_alone_in_their_order(card, count):
    sliced = OpenVinoRuntime(replace(card, strategy="slices"), threads=3)
    # The library makes no more streams than there are cores.
    assert sliced._settings["NUM_STREAMS"] == 3
    assert 1 <= len(sliced._requests) <= 3
    whole = OpenVinoRuntime(card, threads=1)
    assert len(whole._requests) == 1
    values = phantom.batch((count, 2, 8, 8, 2))
    alone = np.concatenate([whole.run(values[k : k + 1])["lesion"] for k in range(count)])
    np.testing.assert_allclose(sliced.run(values)["lesion"], alone, atol=1e-5)
    assert np.ptp(alone) > 0


def test_a_failing_part_of_a_batch_is_told_after_the_other_parts_have_ended(card, monkeypatch):
    runtime, ended = OpenVinoRuntime(replace(card, strategy="slices"), threads=2), []

    class Part:
        def __init__(self, words):
            self._words = words

        def start_async(self, *_, **__):
            pass

        def wait(self):
            ended.append(self._words)
            if self._words:
                raise RuntimeError(self._words)

    monkeypatch.setattr(runtime, "_requests", [Part("the node is unhappy"), Part("")])
    with pytest.raises(ModelError, match="made it fail: the node is unhappy"):
        runtime.run(phantom.batch((2, 2, 8, 8, 2)))
    assert ended == ["the node is unhappy", ""]


@pytest.mark.parametrize("precision", sorted(native_precisions()))
def test_precision_and_threads_are_always_said_to_the_library(card, precision):
    runtime = OpenVinoRuntime(card, precision, threads=1)
    compiled = runtime._requests[0].get_compiled_model()
    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == getattr(room.ov.Type, hint)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert runtime.precision == precision


def test_a_precision_that_the_processor_lacks_becomes_fp32_with_a_note(card, monkeypatch):
    monkeypatch.setattr(room, "native_precisions", lambda _: frozenset({"fp32"}))
    runtime = open_runtime(card, precision="bf16")
    assert runtime.precision == "fp32"
    assert [n.code for n in runtime.notes] == ["precision_not_native"]
    np.testing.assert_array_equal(
        runtime.run(phantom.batch())["lesion"], open_runtime(card).run(phantom.batch())["lesion"]
    )


def test_neither_pytorch_nor_monai_is_imported_for_a_graph_on_the_cpu(card):
    code = f"""
import sys
from pathlib import Path
import numpy
from strokeseg.models import read_card
from strokeseg.runtime import open_runtime
runtime = open_runtime(read_card(Path({str(card.folder)!r})), "auto")
runtime.run(numpy.zeros((1, 2, 8, 8, 8), numpy.float32))
print(runtime.name, sorted({{"torch", "monai", "onnx"}} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "openvino []", done.stderr


# --- windows that add up


def test_windows_add_up_to_their_weighted_mean():
    total = NumpyAccumulator((4, 3, 2), maps=2)
    weight = np.array([1.0, 3.0], dtype=np.float32).reshape(2, 1, 1) * np.ones((2, 3, 2), dtype=np.float32)
    windows = np.stack([np.full((2, 2, 3, 2), v, dtype=np.float32) for v in (4.0, 8.0)])
    windows[:, 1] *= 10
    total.add(windows, [(0, 0, 0), (1, 0, 0)], weight)
    result = total.result(uncovered=-7.0)
    # Voxel 1 is the second of the first window (weight 3) and the first of the second (weight 1): (12 + 8) / 4.
    assert result[0, :, 0, 0].tolist() == [4.0, 5.0, 8.0, -7.0]
    assert result[1, :, 2, 1].tolist() == [40.0, 50.0, 80.0, -7.0]


@pytest.mark.parametrize("position", [(-1, 0, 0), (3, 0, 0), (0, 0, 1)])
def test_a_window_that_reaches_beyond_the_map_is_an_error(position):
    total = NumpyAccumulator((4, 3, 2), maps=1)
    with pytest.raises(ValueError, match="beyond"):
        total.add(np.ones((1, 1, 2, 3, 2), np.float32), [position], np.ones((2, 3, 2), np.float32))


def test_a_map_beyond_all_memory_is_told_so(tmp_path):
    runtime = open_runtime(small_graph(tmp_path / "sum", SUM))
    with pytest.raises(MemoryLimitError) as caught:
        runtime.accumulator((200_000, 200_000, 200_000), 1)
    assert caught.value.exit_code == 6


def test_free_memory_is_a_number_of_bytes(tmp_path):
    assert open_runtime(small_graph(tmp_path / "sum", SUM)).free_memory_bytes() > 2**20


# --- what it refuses


def refused(card, match, error=ModelError, **options):
    with pytest.raises(error, match=match) as caught:
        open_runtime(card, **options)
    assert caught.value.next_step
    return caught.value


def relisted(card, **changes):
    """The card with sizes and hashes of the files as they are now."""
    return phantom.write_card(
        card.folder,
        network=card.network,
        network_arguments=card.network_arguments,
        outputs=list(card.outputs),
        **changes,
    )


def test_a_missing_file_is_named(card):
    (card.folder / "network.onnx").unlink()
    refused(card, "'network.onnx' is missing")


def test_a_file_that_was_changed_after_it_was_used_is_refused(card):
    open_runtime(card).close()
    path = card.folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 1_000_000))
    refused(card, "'weights.safetensors' has the SHA-256")


def test_a_good_file_is_hashed_once(card, monkeypatch):
    open_runtime(card).close()
    monkeypatch.setattr("strokeseg.models.contents.hashlib.file_digest", None)
    open_runtime(card).close()


def test_truncated_weights_are_refused_by_their_size(card):
    path = card.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(card, r"'weights.safetensors' has \d+ bytes; the card says")


def test_truncated_weights_with_a_card_that_fits_are_refused_by_their_content(card):
    path = card.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(relisted(card), "is no safetensors file")


def test_a_pickle_named_safetensors_is_refused_and_not_opened(card, tmp_path):
    trap = tmp_path / "opened"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(trap),))

    (card.folder / "weights.safetensors").write_bytes(pickle.dumps(Trap()))
    refused(relisted(card), "is no safetensors file")
    assert not trap.exists()


@pytest.mark.parametrize(("value", "kind"), [(np.nan, np.float16), (np.inf, np.float16), (np.nan, np.float32)])
def test_weights_that_are_no_numbers_are_refused(card, value, kind):
    path = card.folder / "weights.safetensors"
    weights = load_file(path)
    name = sorted(weights)[-1]
    weights[name] = weights[name].astype(kind)
    weights[name].flat[-1] = value
    save_file(weights, path)
    refused(relisted(card), f"'{name}' in it holds NaN or infinity")


def test_a_number_type_that_is_not_read_is_refused(card):
    header = b'{"a":{"dtype":"F128","shape":[2],"data_offsets":[0,4]}}'
    (card.folder / "weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(relisted(card), "of the type 'F128'")


def test_files_that_the_card_does_not_list_are_refused(card):
    refused(replace(card, files=()), "does not list")
    refused(replace(card, files=tuple(f for f in card.files if f.name == "network.onnx")), "'weights.safetensors'")
    refused(replace(card, folder=None), "has no files")


def test_weights_beside_a_bare_graph_must_be_listed(tmp_path):
    card = small_graph(tmp_path / "sum", SUM)
    (card.folder / "weights.safetensors").write_bytes(b"anything")
    refused(card, "does not list 'weights.safetensors'")


def test_a_graph_without_the_cards_head_is_refused(card):
    refused(replace(card, outputs=("lesion", "perfusion")), "no output 'perfusion'")


def test_a_graph_with_other_channels_than_the_card_is_refused(tmp_path):
    card = small_graph(tmp_path / "sum", SUM, channels=3)
    refused(card, r"must take one input \(N, 2, x, y, z\)")


def test_an_operator_that_nobody_knows_is_refused(tmp_path):
    node = helper.make_node("Steal", ["input"], ["lesion"], domain="elsewhere")
    refused(small_graph(tmp_path / "a", [node], opsets=(("", 18), ("elsewhere", 1))), "was refused.*elsewhere")


def forbid_compiling(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled, though it is in the cache")

    monkeypatch.setattr(room.ov.Core, "compile_model", refuse)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "other.bin"])
def test_a_graph_that_reads_another_file_is_refused_before_the_library_reads_it(tmp_path, monkeypatch, location):
    """Also in a folder that was copied to the models without the store's check."""
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    bias = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    bias.external_data.add(key="location", value=location)
    nodes = [helper.make_node("ReduceSum", ["input", "bias"], ["lesion"], keepdims=1)]
    card = small_graph(tmp_path / "a", nodes, constants=[bias])
    (card.folder / "other.bin").write_bytes(bytes(8))
    forbid_compiling(monkeypatch)
    refused(card, "was refused")


def test_a_graph_that_the_library_cannot_run_is_refused_in_its_words(tmp_path):
    error = refused(small_graph(tmp_path / "a", [helper.make_node("Relu", ["nowhere"], ["lesion"])]), "graph")
    assert "nowhere" in error.cause


def test_a_graph_that_the_library_refuses_is_told_in_its_words(card, monkeypatch):
    def fail(*_):
        raise RuntimeError("Exception from src/a.cpp:1:\nthe operator is unhappy")

    monkeypatch.setattr(room.ov.Core, "compile_model", fail)
    assert "the operator is unhappy" in refused(card, "cannot be run").cause


def test_a_graph_that_is_no_graph_is_refused(tmp_path):
    card = small_graph(tmp_path / "a", SUM)
    (card.folder / "network.onnx").write_bytes(b"no protobuf at all")
    refused(phantom.write_card(card.folder, files=["network.onnx"], network="graph"), "was refused")


@pytest.mark.parametrize("shape", [(1, 3, 8, 8, 8), (2, 8, 8, 8), (1, 2, 8, 8)])
def test_a_batch_of_the_wrong_form_is_refused_and_the_runtime_lives_on(card, shape):
    runtime = open_runtime(card)
    with pytest.raises(ModelError, match=r"It takes \(N, 2, x, y, z\)"):
        runtime.run(phantom.batch(shape))
    assert runtime.run(phantom.batch())["lesion"].shape == (1, 1, 16, 12, 10)


@pytest.mark.parametrize("shape", [(1, 2, 9, 8, 8), (1, 2, 8, 8, 7), (2, 2, 8, 1, 8)])
def test_a_size_that_the_network_cannot_take_is_refused_and_the_runtime_lives_on(card, shape):
    runtime = open_runtime(card)
    with pytest.raises(ModelError, match=r"preparation\.multiple"):
        runtime.run(phantom.batch(shape))
    assert runtime.run(phantom.batch())["lesion"].shape == (1, 1, 16, 12, 10)


def test_a_network_of_one_size_takes_no_other(card):
    runtime = open_runtime(replace(card, input_shape=(8, 8, 8)))
    assert runtime.run(phantom.batch((1, 2, 8, 8, 8)))["lesion"].shape == (1, 1, 8, 8, 8)
    with pytest.raises(ModelError, match=r"\(N, 2, 8, 8, 8\)"):
        runtime.run(phantom.batch())


def test_an_output_of_another_size_than_the_input_is_refused(tmp_path):
    pool = helper.make_node("MaxPool", ["input"], ["lesion"], kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    runtime = open_runtime(small_graph(tmp_path / "half", [pool]))
    with pytest.raises(ModelError, match=r"has the shape \(1, 2, 4, 4, 4\)"):
        runtime.run(phantom.batch((1, 2, 8, 8, 8)))


def test_a_graph_that_bends_the_input_into_another_size_is_refused(tmp_path):
    """Before it runs: the library would let it pass and write past the end of its memory."""
    shape = helper.make_tensor("s", TensorProto.INT64, [5], [1, 1, 7, 7, 7])
    node = helper.make_node("Reshape", ["input", "s"], ["lesion"])
    with pytest.raises(ModelError, match=r"has the shape \[1,1,7,7,7\] for every input"):
        open_runtime(small_graph(tmp_path / "a", [node], constants=[shape]))


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ("Exception from src/a.cpp:1:\nstd::bad_alloc", MemoryLimitError, "bad_alloc"),
        ("Exception from src/a.cpp:1:\nthe node is unhappy", ModelError, "made it fail: the node is unhappy"),
    ],
)
def test_a_failure_of_the_library_is_told_in_its_words(card, monkeypatch, words, error, told):
    runtime = open_runtime(card)

    class Failing:
        def start_async(self, *_, **__):
            pass

        def wait(self):
            raise RuntimeError(words)

    monkeypatch.setattr(runtime, "_requests", [Failing()])
    with pytest.raises(error, match=told):
        runtime.run(phantom.batch())


def test_the_phantom_keeps_its_weights_outside_the_graph(card):
    model = onnx.load(card.folder / "network.onnx", load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert len(outside) > 10


# --- the choice


@pytest.mark.parametrize("device", ["cuda:0", "cuda", "mps"])
def test_a_bare_graph_says_why_it_runs_on_no_gpu(tmp_path, device):
    error = refused(small_graph(tmp_path / "a", SUM), "bare graph", DependencyError, device=device)
    assert error.exit_code == 5


def test_a_bare_graph_cannot_be_run_by_pytorch(tmp_path):
    refused(small_graph(tmp_path / "a", SUM), "bare graph", runtime="torch")


def test_openvino_on_a_gpu_is_refused(card):
    refused(card, "runs models on the CPU", DependencyError, device="cuda:0", runtime="openvino")


def test_openvino_for_a_model_without_graph_gives_the_cards_reason(card):
    without = replace(card, runtime="torch", runtime_reason="it draws boxes.")
    assert "it draws boxes." in refused(without, "by OpenVINO", runtime="openvino").cause


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"runtime": "tensorrt"}, {"precision": "int8"}])
def test_a_word_that_is_no_choice_is_refused(card, options):
    (word,) = options.values()
    refused(card, word, DependencyError, **options)


def test_without_openvino_a_bare_graph_names_the_command_that_installs_it(tmp_path, monkeypatch):
    card = small_graph(tmp_path / "a", SUM)
    without(monkeypatch, "openvino")
    error = refused(card, "needs OpenVINO", DependencyError)
    assert error.exit_code == 5
    assert "pip install" in error.next_step


def test_without_openvino_pytorch_runs_what_it_can_and_it_is_said(card, monkeypatch):
    expected = open_runtime(card).run(phantom.batch())["lesion"]
    without(monkeypatch, "openvino")
    runtime = open_runtime(card)
    assert runtime.name == "torch"
    assert [n.code for n in runtime.notes] == ["openvino_missing"]
    np.testing.assert_allclose(runtime.run(phantom.batch())["lesion"], expected, atol=1e-3)


def without(monkeypatch, library):
    """As if a library were not installed."""
    monkeypatch.setitem(sys.modules, library, None)
    for name in ("openvino", "pytorch"):
        monkeypatch.delitem(sys.modules, f"strokeseg.runtime.{name}", raising=False)


# --- runtimes that stay open


def test_a_second_run_takes_the_runtime_that_is_open(card):
    kept = KeptRuntimes()
    first = kept.open(card)
    assert kept.open(card) is first
    assert kept.open(card, threads=2) is not first
    kept.close()
    assert kept.open(card) is not first


def test_the_runtime_longest_not_used_is_closed_first(card):
    kept = KeptRuntimes(limit=2)
    one, two = kept.open(card, threads=1), kept.open(card, threads=2)
    kept.open(card, threads=1)
    kept.open(card, threads=3)
    assert kept.open(card, threads=1) is one
    assert kept.open(card, threads=2) is not two


@pytest.mark.skipif(os.name != "posix", reason="signal stacks are of POSIX systems")
def test_signals_are_survived_after_runtimes_were_closed_in_any_order(card):
    code = f"""
import faulthandler, gc, os, signal
from pathlib import Path
from strokeseg.models import read_card
from strokeseg.runtime import open_runtime
faulthandler.enable()  # it too has a signal stack
card = read_card(Path({str(card.folder)!r}))
opened = [open_runtime(card, threads=1) for _ in range(3)]
for number in (0, 1, 0):
    opened.pop(number).close()
    gc.collect()
heard = []
signal.signal(signal.SIGCHLD, lambda *_: heard.append("child"))
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
print(heard)
"""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "['child']"), done.stderr


def test_a_kept_runtime_of_a_model_that_was_changed_is_refused(card):
    kept = KeptRuntimes()
    kept.open(card)
    (card.folder / "weights.safetensors").write_bytes(b"changed")
    with pytest.raises(ModelError, match="damaged"):
        kept.open(card)
