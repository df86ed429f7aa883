"""Model folders made by hand: a 1x1x1 convolution whose weights the graph takes out of ``weights.safetensors``."""

import hashlib
import json
import struct
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

FILES = ("weights.safetensors", "network.onnx")
VALUES = {"conv.weight": np.full((1, 2, 1, 1, 1), 0.5, np.float16), "conv.bias": np.zeros(1, np.float16)}


def places(weights):
    """Name to (offset, length) in a weights file, and its header's shape, as the graph must give them."""
    (length,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + length])
    header.pop("__metadata__", None)
    begin = 8 + length
    return {n: (begin + e["data_offsets"][0], e["data_offsets"][1] - e["data_offsets"][0]) for n, e in header.items()}


def pointer(name, offset, length, dims, location="weights.safetensors", data_type=TensorProto.FLOAT16, **more):
    """A tensor whose numbers are elsewhere."""
    tensor = TensorProto(name=name, data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": offset, "length": length, **more}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def make_graph(weights=None, outputs=("lesion",), opset=18, ir=10):
    """The graph of the convolution, as an ONNX model."""
    stored = places(weights if weights is not None else save(VALUES))
    nodes = [helper.make_node("Cast", ["stored." + n], [n], to=TensorProto.FLOAT) for n in VALUES]
    nodes.append(helper.make_node("Conv", ["input", *VALUES], ["y"]))
    nodes += [helper.make_node("Identity", ["y"], [o]) for o in outputs]
    axes = ["n", 2, "x", "y", "z"]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [pointer("stored." + n, *stored[n], VALUES[n].shape) for n in VALUES],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def write_model(folder, *, weights=None, graph=None, **changes):
    """A whole model folder; None as `graph` makes the usual one, bytes are taken as they are."""
    folder.mkdir(parents=True)
    weights = save(VALUES) if weights is None else weights
    (folder / "weights.safetensors").write_bytes(weights)
    graph = make_graph(weights) if graph is None else graph
    (folder / "network.onnx").write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    write_card(folder, **changes)
    return folder


def write_card(folder, files=FILES, **changes):
    """Write card.json for the files as they are now."""
    data = {
        "format": 1,
        "name": folder.name,
        "title": "Tiny",
        "version": "1",
        "task": "test",
        "inputs": [{"role": "dwi", "required": True}, {"role": "adc", "required": True}],
        "reference_role": "dwi",
        "preparation": {"spacing_mm": [2, 2, 2], "margin_voxels": 2, "multiple": 1, "channels": ["dwi_ratio", "adc"]},
        "network": "graph",
        "runtime": "openvino",
        "strategy": "whole",
        "classes": [
            {
                "value": 1,
                "name": "lesion",
                "coding_scheme": "SCT",
                "code": "55641003",
                "meaning": "Infarct",
                "colour": [220, 50, 47],
            }
        ],
        "decision": {"rule": "threshold", "threshold": 0.5},
        "minimum_lesion_ml": 0.0,
        "files": [file_entry(folder / name) for name in files],
        "origin": {"licence": "Apache-2.0"},
        "measured": [],
        "intended_use": "Tests only.",
        "limits": ["Means nothing."],
        **changes,
    }
    (folder / "card.json").write_text(json.dumps(data), encoding="utf-8")


def file_entry(path):
    """A file as the card lists it."""
    content = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def zip_of(folder, path, top="", compression=zipfile.ZIP_DEFLATED):
    """A zip of a model folder, its files below `top`."""
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for file in sorted(folder.iterdir()):
            zipped.write(file, top + file.name)
    return path


def tree(folder):
    """Every file and folder below a folder but the empty file that serves as lock."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name != ".lock")


def run_graph(folder):
    """The graph's result for ones, by the reference implementation of ONNX: 0.5 * 1 + 0.5 * 1 everywhere."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(folder / "network.onnx")
    return ReferenceEvaluator(model).run(None, {"input": np.ones((1, 2, 2, 2, 2), np.float32)})[0]
