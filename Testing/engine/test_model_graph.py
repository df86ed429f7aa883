"""The graph check: tensors point only into the model's own weights, operators are ONNX's, bad bytes are refused."""

import os
import random

import model_folders as folders
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from strokeseg.errors import ModelError
from strokeseg.models import graph as graph_module
from strokeseg.models import onnx_messages
from strokeseg.models.graph import check_graph
from strokeseg.models.operators import NEWEST_SET, OPERATORS
from strokeseg.models.safetensors_header import read_header
from strokeseg.models.wire import BYTES, FIXED32, FIXED64, VARINT, Budget, WireError, read_message

WEIGHTS = folders.save(folders.VALUES)
BIAS = folders.places(WEIGHTS)["conv.bias"]
KERNEL = folders.places(WEIGHTS)["conv.weight"]


def check(tmp_path, model, outputs=("lesion",), weights=WEIGHTS):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (tmp_path / "network.onnx").write_bytes(data)
    file = tmp_path / "weights.safetensors"
    if weights is not None and not file.exists():
        file.write_bytes(weights)
    check_graph(tmp_path / "network.onnx", read_header(file) if weights is not None else None, outputs)


def refusal(tmp_path, model, **options):
    with pytest.raises(ModelError) as caught:
        check(tmp_path, model, **options)
    assert caught.value.title == "The graph 'network.onnx' was refused."
    assert caught.value.next_step
    return caught.value.cause


def test_the_sound_graph_passes_and_computes_what_it_should(tmp_path):
    check(tmp_path, folders.make_graph())
    assert folders.run_graph(tmp_path).ravel().tolist() == [1.0] * 8


def test_weights_with_a_checksum_pass(tmp_path):
    model = folders.make_graph()
    model.graph.initializer[0].external_data.add(key="checksum", value="ab" * 20)
    check(tmp_path, model)


# --- where a tensor can be


def constant(tensor):
    return helper.make_node("Constant", [], ["c"], value=tensor)


def inner(nodes=(), tensors=(), name="inner"):
    return helper.make_graph(list(nodes), name, [], [], list(tensors))


def branches(then):
    return helper.make_node("If", ["flag"], [], then_branch=then, else_branch=inner())


def in_main(model, tensor):
    model.graph.initializer.append(tensor)


def in_attribute(model, tensor):
    model.graph.node.append(constant(tensor))


def in_attribute_list(model, tensor):
    model.graph.node.add(op_type="Constant").attribute.add(name="x", type=AttributeProto.TENSORS).tensors.append(tensor)


def in_branch(model, tensor):
    model.graph.node.append(branches(inner(tensors=[tensor])))


def in_branch_of_branch_attribute(model, tensor):
    model.graph.node.append(branches(inner([branches(inner([constant(tensor)]))])))


def in_list_of_graphs(model, tensor):
    model.graph.node.add(op_type="Scan").attribute.add(name="x", type=AttributeProto.GRAPHS).graphs.append(
        inner(tensors=[tensor])
    )


def in_function(model, tensor):
    sets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "f", [], ["c"], [constant(tensor)], sets))


def in_branch_of_function(model, tensor):
    sets = [helper.make_opsetid("", 18)]
    node = branches(inner(tensors=[tensor]))
    model.functions.append(helper.make_function("local", "f", ["flag"], [], [node], sets))


def in_default_of_function(model, tensor):
    sets = [helper.make_opsetid("", 18)]
    function = helper.make_function("local", "f", [], [], [], sets)
    function.attribute_proto.add(name="x", type=AttributeProto.TENSOR).t.CopyFrom(tensor)
    model.functions.append(function)


def in_sparse_values(model, tensor):
    model.graph.sparse_initializer.add(dims=[4]).values.CopyFrom(tensor)


def in_sparse_indices(model, tensor):
    model.graph.sparse_initializer.add(dims=[4]).indices.CopyFrom(tensor)


def in_sparse_attribute(model, tensor):
    attribute = model.graph.node.add(op_type="Constant").attribute.add(type=AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(tensor)


def in_sparse_attribute_list(model, tensor):
    attribute = model.graph.node.add(op_type="Constant").attribute.add(type=AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.add().indices.CopyFrom(tensor)


def in_training_start(model, tensor):
    model.training_info.add().initialization.initializer.append(tensor)


def in_training_step(model, tensor):
    model.training_info.add().algorithm.node.append(constant(tensor))


PLACES = [value for name, value in list(globals().items()) if name.startswith("in_")]


@pytest.mark.parametrize("put", PLACES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.safetensors"])
def test_a_tensor_outside_is_found_wherever_it_is(tmp_path, put, location):
    model = folders.make_graph()
    put(model, folders.pointer("leak", *BIAS, [1], location=location))
    cause = refusal(tmp_path, model)
    assert "'leak'" in cause
    assert repr(location) in cause
    assert "only the model's own 'weights.safetensors' may be read" in cause


@pytest.mark.parametrize("put", PLACES, ids=lambda f: f.__name__)
def test_a_tensor_in_the_own_weights_passes_wherever_it_is(tmp_path, put):
    model = folders.make_graph()
    put(model, folders.pointer("more", *BIAS, [1]))
    check(tmp_path, model)


# --- where a tensor may point to

ELSEWHERE = [
    "./weights.safetensors", "a/../weights.safetensors", "sub/weights.safetensors", "weights.safetensors/",
    "weights.safetensors\0", "weights.safetensors ", "WEIGHTS.safetensors", "weights.SafeTensors", "", "card.json",
    "network.onnx", "C:\\weights.safetensors", "\\\\server\\share\\weights.safetensors", "file:///etc/passwd",
    "weights.safetensors\u200b", "*/_ORT_MEM_ADDR_/*",
]  # fmt: skip


@pytest.mark.parametrize("location", ELSEWHERE)
def test_any_other_name_is_refused(tmp_path, location):
    model = folders.make_graph()
    in_main(model, folders.pointer("leak", *BIAS, [1], location=location))
    assert "takes its numbers from" in refusal(tmp_path, model)


OFFSET, LENGTH = BIAS
SIZE = len(WEIGHTS)


@pytest.mark.parametrize(
    ("offset", "length", "dims"),
    [
        (0, LENGTH, [1]),
        (0, SIZE, [SIZE // 2]),
        (OFFSET + 1, LENGTH, [1]),
        (OFFSET, LENGTH - 1, [1]),
        (OFFSET, LENGTH + 2, [2]),
        (min(OFFSET, KERNEL[0]), LENGTH + KERNEL[1], [3]),
        (SIZE, LENGTH, [1]),
        (OFFSET, 10**12, [5 * 10**11]),
    ],
    ids=["header", "whole file", "shifted", "short", "long", "two tensors", "behind the end", "huge"],
)
def test_bytes_that_are_not_one_tensor_are_refused(tmp_path, offset, length, dims):
    model = folders.make_graph()
    in_main(model, folders.pointer("leak", offset, length, dims))
    assert "where no tensor lies" in refusal(tmp_path, model)


@pytest.mark.parametrize(
    "offset", [None, "", "-8", "+8", "0x10", " 8", "8 ", "8\0", "1e3", "１６", "9" * 30, "8.0"]
)  # fmt: skip
@pytest.mark.parametrize("which", ["offset", "length"])
def test_places_that_are_no_plain_numbers_are_refused(tmp_path, which, offset):
    place = {"offset": OFFSET, "length": LENGTH, which: offset}
    model = folders.make_graph()
    in_main(model, folders.pointer("leak", place["offset"], place["length"], [1]))
    assert "points to the bytes" in refusal(tmp_path, model)


def test_unknown_and_repeated_keys_are_refused(tmp_path):
    for key in ("basepath", "location", "offset", "Location"):
        model = folders.make_graph()
        model.graph.initializer[0].external_data.add(key=key, value="weights.safetensors")
        assert f"'{key}', which is unknown or stands there twice" in refusal(tmp_path, model)


@pytest.mark.parametrize("location", [TensorProto.DEFAULT, None])
def test_a_pointer_that_is_not_marked_as_one_is_refused(tmp_path, location):
    model = folders.make_graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("data_location")
    if location is not None:
        tensor.data_location = location
    assert "says both" in refusal(tmp_path, model)


@pytest.mark.parametrize(
    ("field", "value"), [("raw_data", b"\0\0"), ("int32_data", [0]), ("float_data", [0.0]), ("int64_data", [1])]
)
def test_a_tensor_that_is_inside_and_outside_is_refused(tmp_path, field, value):
    model = folders.make_graph()
    tensor = model.graph.initializer[1]
    if isinstance(value, bytes):
        tensor.raw_data = value
    else:
        getattr(tensor, field).extend(value)
    assert "says both" in refusal(tmp_path, model)


def test_a_pointer_without_any_key_is_refused(tmp_path):
    model = folders.make_graph()
    in_main(model, TensorProto(name="leak", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL))
    assert "'nowhere'" in refusal(tmp_path, model)


def test_another_type_or_shape_than_the_weights_is_refused(tmp_path):
    model = folders.make_graph()
    in_main(model, folders.pointer("w", *KERNEL, [1], data_type=TensorProto.FLOAT))
    assert "of the type F32, the weights there are F16" in refusal(tmp_path, model)
    for dims in ([3], [2, 2], [-2], [2**40, 2**40], [0]):
        model = folders.make_graph()
        in_main(model, folders.pointer("w", *KERNEL, dims))
        assert "cannot be 4 bytes long" in refusal(tmp_path, model)


def test_a_pointer_without_weights_file_is_refused(tmp_path):
    assert "which the model does not have" in refusal(tmp_path, folders.make_graph(), weights=None)


# --- operators


@pytest.mark.parametrize(
    ("domain", "operator"),
    [
        ("custom", "Conv"),
        ("com.microsoft", "FusedConv"),
        ("ai.onnx.ml", "LinearRegressor"),
        ("ai.onnx.training", "Adam"),
        ("AI.ONNX", "Conv"),
        ("org.openvinotoolkit", "Swish"),
        ("", "RunProgram"),
        ("", "conv"),
        ("", ""),
        ("ai.onnx", "Upsample"),
    ],
)
@pytest.mark.parametrize("where", ["main", "branch", "function"])
def test_operators_beyond_onnx_are_refused_wherever_they_are(tmp_path, where, domain, operator):
    model = folders.make_graph()
    node = helper.make_node(operator, [], ["c"], domain=domain)
    if where == "main":
        model.graph.node.append(node)
    elif where == "branch":
        model.graph.node.append(branches(inner([node])))
    else:
        sets = [helper.make_opsetid("", 18)]
        model.functions.append(helper.make_function("local", "f", [], ["c"], [node], sets))
    cause = refusal(tmp_path, model)
    assert operator in cause
    assert "which ONNX itself does not define" in cause


def test_the_written_out_name_of_the_onnx_domain_passes(tmp_path):
    model = folders.make_graph()
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    check(tmp_path, model)


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_known_operator_sets_pass(tmp_path, opset):
    check(tmp_path, folders.make_graph(opset=opset))


@pytest.mark.parametrize("opset", [0, 17, 24, 2**40, -1])
def test_unknown_operator_sets_are_refused(tmp_path, opset):
    assert "operator set; 18 to 23 are known" in refusal(tmp_path, folders.make_graph(opset=opset))


def test_no_operator_set_and_a_functions_own_are_refused(tmp_path):
    model = folders.make_graph()
    del model.opset_import[:]
    assert "no version of ONNX's operator set" in refusal(tmp_path, model)
    model = folders.make_graph()
    model.functions.append(helper.make_function("local", "f", [], [], [], [helper.make_opsetid("", 99)]))
    assert "version 99" in refusal(tmp_path, model)


def test_the_list_of_operators_is_that_of_onnx():
    newest = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= NEWEST_SET:
            newest[schema.name] = max(newest.get(schema.name, (0, False)), (schema.since_version, schema.deprecated))
    assert {name for name, (_, withdrawn) in newest.items() if not withdrawn} == OPERATORS


@pytest.mark.parametrize("version", [0, 2, 15, -1, 2**62])
def test_unknown_file_formats_are_refused(tmp_path, version):
    assert "file format (IR)" in refusal(tmp_path, folders.make_graph(ir=version))


# --- its ends


def test_another_input_is_refused(tmp_path):
    model = folders.make_graph()
    model.graph.input[0].name = "image"
    assert "Its inputs are 'image'; expected is one, 'input'" in refusal(tmp_path, model)
    model = folders.make_graph()
    model.graph.input.add(name="second")
    assert "'input', 'second'" in refusal(tmp_path, model)
    model = folders.make_graph()
    del model.graph.input[:]
    assert "Its inputs are none" in refusal(tmp_path, model)


def test_weights_that_are_listed_as_inputs_too_pass(tmp_path):
    model = folders.make_graph()
    for tensor in model.graph.initializer:
        model.graph.input.add(name=tensor.name)
    check(tmp_path, model)


def test_a_missing_head_is_refused_and_a_second_one_the_card_does_not_name(tmp_path):
    assert "no output 'tissue'" in refusal(tmp_path, folders.make_graph(), outputs=("lesion", "tissue"))
    both = folders.make_graph(outputs=("lesion", "tissue"))
    check(tmp_path, both, outputs=("lesion", "tissue"))
    assert "the card names 'lesion'" in refusal(tmp_path, both)


# --- numbers within the graph


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_within_the_graph_is_refused_and_infinity_is_not(tmp_path, kind):
    for value, good in ((np.inf, True), (-np.inf, True), (np.nan, False)):
        tensor = numpy_helper.from_array(np.array([1.0, value, 2.0], kind), "numbers")
        model = folders.make_graph()
        in_attribute(model, tensor)
        if good:
            check(tmp_path, model)
        else:
            assert "'numbers' holds values that are no numbers" in refusal(tmp_path, model)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TensorProto.FLOAT, float("nan")),
        (TensorProto.DOUBLE, float("nan")),
        (TensorProto.FLOAT16, np.float16("nan")),
    ],
)
def test_nan_written_number_by_number_is_refused(tmp_path, kind, value):
    model = folders.make_graph()
    in_main(model, helper.make_tensor("numbers", kind, [2], [0.5, value]))
    assert not model.graph.initializer[-1].raw_data
    assert "'numbers' holds values that are no numbers" in refusal(tmp_path, model)


def test_bfloat16_nan_is_refused_and_infinity_is_not(tmp_path):
    for bits, good in ((0x7F80, True), (0x7FC0, False)):
        model = folders.make_graph()
        tensor = TensorProto(
            name="numbers", data_type=TensorProto.BFLOAT16, dims=[1], raw_data=bits.to_bytes(2, "little")
        )
        in_main(model, tensor)
        if good:
            check(tmp_path, model)
        else:
            assert "no numbers" in refusal(tmp_path, model)


def test_numbers_that_are_cut_off_are_refused(tmp_path):
    model = folders.make_graph()
    in_main(model, TensorProto(name="n", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\0\0\0"))
    assert "cut off" in refusal(tmp_path, model)


# --- bytes


def test_every_cut_is_refused(tmp_path):
    whole = folders.make_graph().SerializeToString()
    for length in range(len(whole)):
        refusal(tmp_path, whole[:length])


def test_changed_bytes_pass_or_are_refused_in_words(tmp_path):
    whole = folders.make_graph().SerializeToString()
    rng = random.Random(0)
    refused, trials = 0, 5000 if os.environ.get("STROKESEG_SOAK") else 300
    for _ in range(trials):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            check(tmp_path, bytes(data))
        except ModelError:
            refused += 1
    assert refused > trials / 2


def field(number, kind, content=b"", value=0):
    key = varint(number << 3 | kind)
    return key + (varint(value) if kind == 0 else varint(len(content)) + content if kind == 2 else content)


def varint(value):
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (field(7, 2, folders.make_graph().graph.SerializeToString()), "'graph' of a model stands there twice"),
        (field(1, 0, value=10), "'ir_version' of a model stands there twice"),
        (field(99, 2, b"x"), "has the field 99, which is not known"),
        (field(0, 0), "has the field 0, which is not known"),
        (varint(7 << 3 | 3), "'graph' of a model has the type 3 instead of 2"),
        (field(20, 0), "'training_info' of a model has the type 0 instead of 2"),
        (varint(25 << 3 | 2) + varint(1000), "'functions' of a model has 1000 bytes, 0 are left"),
        (varint(25 << 3 | 2) + varint(2**63), f"has {2**63} bytes, 0 are left"),
        (varint(25 << 3 | 2) + b"\xff" * 11, "a number in it has no end"),
        (b"\x80", "cut off or damaged"),
    ],
    ids=["graph twice", "number twice", "unknown", "zero", "group", "type", "long", "huge", "endless", "cut"],
)
def test_what_parsers_read_each_in_its_own_way_is_refused(tmp_path, added, said):
    assert said in refusal(tmp_path, folders.make_graph().SerializeToString() + added)


def test_pieces_of_a_pointer_that_a_parser_would_join_are_refused(tmp_path):
    good = folders.pointer("w", *BIAS, [1]).SerializeToString()
    rest = TensorProto()
    rest.external_data.add(key="location", value="/etc/passwd")
    attribute = field(1, 2, b"value") + field(5, 2, good) + field(5, 2, rest.SerializeToString())
    node = field(4, 2, b"Constant") + field(5, 2, attribute)
    whole = folders.make_graph()
    joined = whole.graph.SerializeToString() + field(1, 2, node)
    whole.ClearField("graph")
    assert "'t' of a attribute stands there twice" in refusal(tmp_path, whole.SerializeToString() + field(7, 2, joined))


@pytest.mark.parametrize("levels", [15, 16, 2000])
def test_graphs_may_be_nested_to_a_bound(tmp_path, levels):
    graph = b""
    for _ in range(levels):
        graph = field(1, 2, field(4, 2, b"If") + field(5, 2, field(6, 2, graph)))
    whole = folders.make_graph()
    nested = whole.graph.SerializeToString() + graph
    whole.ClearField("graph")
    data = whole.SerializeToString() + field(7, 2, nested)
    if levels < 16:
        check(tmp_path, data)
    else:
        assert "nested more than 16 levels" in refusal(tmp_path, data)


def test_millions_of_small_fields_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "_MOST_FIELDS", 500)
    model = folders.make_graph()
    check(tmp_path, model)
    in_main(model, helper.make_tensor("many", TensorProto.FLOAT16, [600], np.zeros(600, np.float16)))
    assert "more than 500 fields" in refusal(tmp_path, model)


def test_a_graph_with_its_weights_inside_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "_MOST_BYTES", 2000)
    model = folders.make_graph()
    check(tmp_path, model)
    in_main(model, numpy_helper.from_array(np.zeros(500, np.float32), "inside"))
    assert "at most 2000 are read: its weights belong into 'weights.safetensors'" in refusal(tmp_path, model)


@pytest.mark.parametrize("data", [b"", b"\0", b"{}", b"PK\x03\x04" + b"\0" * 40, bytes(range(256))])
def test_other_files_are_refused(tmp_path, data):
    refusal(tmp_path, data)


def test_texts_from_the_graph_stay_in_one_short_line(tmp_path):
    model = folders.make_graph()
    model.graph.node[0].op_type = "\x1b[2J\n" * 500
    cause = refusal(tmp_path, model)
    assert cause.isprintable()
    assert len(cause) < 300


# --- the tables of messages

SPELLED = {
    "MODEL": "ModelProto", "OPERATOR_SET": "OperatorSetIdProto", "GRAPH": "GraphProto", "NODE": "NodeProto",
    "ATTRIBUTE": "AttributeProto", "TENSOR": "TensorProto", "SPARSE": "SparseTensorProto", "FUNCTION": "FunctionProto",
    "TRAINING": "TrainingInfoProto", "VALUE": "ValueInfoProto", "PAIR": "StringStringEntryProto",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SPELLED))
def test_the_fields_are_those_of_onnx(name):
    described = getattr(onnx, SPELLED[name], None) or getattr(onnx.onnx_ml_pb2, SPELLED[name])
    wire = {1: FIXED64, 2: FIXED32, 9: BYTES, 11: BYTES, 12: BYTES}
    known = {
        f.number: (f.name, wire.get(f.type, VARINT), bool(f.is_repeated if hasattr(f, "is_repeated") else f.label == 3))
        for f in described.DESCRIPTOR.fields
    }
    own = {number: tuple(f) for number, f in getattr(onnx_messages, name).fields.items()}
    unknown = {n: f for n, f in known.items() if n not in own}
    assert {n: f for n, f in own.items() if n in known} == {n: f for n, f in known.items() if n in own}
    assert not unknown or onnx.IR_VERSION > 14


def test_no_tensor_and_no_node_is_in_a_message_that_is_not_looked_into():
    looked_into = set(SPELLED.values())
    holding = {"TensorProto", "NodeProto", "SparseTensorProto", "AttributeProto", "GraphProto", "FunctionProto"}
    queue = [f for name in looked_into for f in getattr(onnx.onnx_ml_pb2, name).DESCRIPTOR.fields]
    seen = set()
    while queue:
        message = queue.pop().message_type
        if message is None or message.name in looked_into or message.full_name in seen:
            continue
        seen.add(message.full_name)
        assert message.name not in holding
        queue += [f for f in message.fields if f.message_type is not None]
    assert {"onnx.TypeProto", "onnx.TensorShapeProto"} <= seen
    for name in seen:
        assert not any(f.message_type and f.message_type.name in holding for f in _fields_of(name))


def _fields_of(full_name):
    return onnx.onnx_ml_pb2.DESCRIPTOR.pool.FindMessageTypeByName(full_name).fields


def test_packed_and_single_numbers_are_read_alike():
    single = b"".join(field(1, 0, value=v) for v in (3, 300))
    packed = field(1, 2, varint(3) + varint(300))
    one = read_message(memoryview(single), onnx_messages.TENSOR, Budget(10))
    other = read_message(memoryview(packed), onnx_messages.TENSOR, Budget(10))
    assert one.numbers("dims") == [3, 300]
    assert bytes(other.data("dims")[0]) == varint(3) + varint(300)
    with pytest.raises(WireError, match="more than 1 fields"):
        read_message(memoryview(single), onnx_messages.TENSOR, Budget(1))
