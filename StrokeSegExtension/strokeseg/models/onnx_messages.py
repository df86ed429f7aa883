"""The messages of an ONNX file, as far as a check must look into them. Standard library only.

Numbers and types are those of ``onnx.proto`` (github.com/onnx/onnx, file format version 14); a message that is named
with `BYTES` only is not looked into, because no tensor and no node can be in it.
"""

from __future__ import annotations

from strokeseg.models.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Message

MODEL = Message(
    "model",
    {
        1: Field("ir_version", VARINT),
        2: Field("producer_name", BYTES),
        3: Field("producer_version", BYTES),
        4: Field("domain", BYTES),
        5: Field("model_version", VARINT),
        6: Field("doc_string", BYTES),
        7: Field("graph", BYTES),
        8: Field("opset_import", BYTES, many=True),
        14: Field("metadata_props", BYTES, many=True),
        20: Field("training_info", BYTES, many=True),
        25: Field("functions", BYTES, many=True),
        26: Field("configuration", BYTES, many=True),
    },
)
OPERATOR_SET = Message("operator set", {1: Field("domain", BYTES), 2: Field("version", VARINT)})
GRAPH = Message(
    "graph",
    {
        1: Field("node", BYTES, many=True),
        2: Field("name", BYTES),
        5: Field("initializer", BYTES, many=True),
        10: Field("doc_string", BYTES),
        11: Field("input", BYTES, many=True),
        12: Field("output", BYTES, many=True),
        13: Field("value_info", BYTES, many=True),
        14: Field("quantization_annotation", BYTES, many=True),
        15: Field("sparse_initializer", BYTES, many=True),
        16: Field("metadata_props", BYTES, many=True),
    },
)
NODE = Message(
    "node",
    {
        1: Field("input", BYTES, many=True),
        2: Field("output", BYTES, many=True),
        3: Field("name", BYTES),
        4: Field("op_type", BYTES),
        5: Field("attribute", BYTES, many=True),
        6: Field("doc_string", BYTES),
        7: Field("domain", BYTES),
        8: Field("overload", BYTES),
        9: Field("metadata_props", BYTES, many=True),
        10: Field("device_configurations", BYTES, many=True),
    },
)
ATTRIBUTE = Message(
    "attribute",
    {
        1: Field("name", BYTES),
        2: Field("f", FIXED32),
        3: Field("i", VARINT),
        4: Field("s", BYTES),
        5: Field("t", BYTES),
        6: Field("g", BYTES),
        7: Field("floats", FIXED32, many=True),
        8: Field("ints", VARINT, many=True),
        9: Field("strings", BYTES, many=True),
        10: Field("tensors", BYTES, many=True),
        11: Field("graphs", BYTES, many=True),
        13: Field("doc_string", BYTES),
        14: Field("tp", BYTES),
        15: Field("type_protos", BYTES, many=True),
        20: Field("type", VARINT),
        21: Field("ref_attr_name", BYTES),
        22: Field("sparse_tensor", BYTES),
        23: Field("sparse_tensors", BYTES, many=True),
    },
)
TENSOR = Message(
    "tensor",
    {
        1: Field("dims", VARINT, many=True),
        2: Field("data_type", VARINT),
        3: Field("segment", BYTES),
        4: Field("float_data", FIXED32, many=True),
        5: Field("int32_data", VARINT, many=True),
        6: Field("string_data", BYTES, many=True),
        7: Field("int64_data", VARINT, many=True),
        8: Field("name", BYTES),
        9: Field("raw_data", BYTES),
        10: Field("double_data", FIXED64, many=True),
        11: Field("uint64_data", VARINT, many=True),
        12: Field("doc_string", BYTES),
        13: Field("external_data", BYTES, many=True),
        14: Field("data_location", VARINT),
        16: Field("metadata_props", BYTES, many=True),
    },
)
INLINE = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
"""Fields of a tensor that hold its numbers in the graph."""
SPARSE = Message(
    "sparse tensor",
    {1: Field("values", BYTES), 2: Field("indices", BYTES), 3: Field("dims", VARINT, many=True)},
)
FUNCTION = Message(
    "function",
    {
        1: Field("name", BYTES),
        4: Field("input", BYTES, many=True),
        5: Field("output", BYTES, many=True),
        6: Field("attribute", BYTES, many=True),
        7: Field("node", BYTES, many=True),
        8: Field("doc_string", BYTES),
        9: Field("opset_import", BYTES, many=True),
        10: Field("domain", BYTES),
        11: Field("attribute_proto", BYTES, many=True),
        12: Field("value_info", BYTES, many=True),
        13: Field("overload", BYTES),
        14: Field("metadata_props", BYTES, many=True),
    },
)
TRAINING = Message(
    "training information",
    {
        1: Field("initialization", BYTES),
        2: Field("algorithm", BYTES),
        3: Field("initialization_binding", BYTES, many=True),
        4: Field("update_binding", BYTES, many=True),
    },
)
VALUE = Message(
    "value",
    {
        1: Field("name", BYTES),
        2: Field("type", BYTES),
        3: Field("doc_string", BYTES),
        4: Field("metadata_props", BYTES, many=True),
    },
)
PAIR = Message("pair", {1: Field("key", BYTES), 2: Field("value", BYTES)})
