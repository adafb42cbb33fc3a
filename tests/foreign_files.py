"""Files as PyTorch and Caffe write them, made without either."""

import io
import pickle
import struct
import zipfile

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

OLD_NUMBER = 0x1950A86A20F9469CFC6C  # with which PyTorch before 1.6 begins a file
TORCH_TYPES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage"}


def text(word):
    return b"X" + struct.pack("<i", len(word)) + word.encode()


def integers(numbers):
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"


def state_dict_pickle(tensors):
    """The pickle of an OrderedDict of tensors, as torch.save writes it."""
    empty = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", empty, b"("]
    for number, (name, array) in enumerate(tensors.items()):
        kind = TORCH_TYPES[array.dtype.str[1:]]
        strides = [step // array.itemsize for step in array.strides]
        storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode()
        storage += text(str(number)) + text("cpu")
        storage += b"J" + struct.pack("<i", array.size) + b"tQ"
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", storage]
        parts += [b"J" + struct.pack("<i", 0), integers(array.shape), integers(strides)]
        parts += [b"\x89", empty, b"tR"]
    return b"".join([*parts, b"u."])


def pth_bytes(tensors, pickled=None, compression=zipfile.ZIP_STORED):
    """A .pth file of these tensors; with `pickled` in place of its own pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        pickled = state_dict_pickle(tensors) if pickled is None else pickled
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def old_pth_bytes(tensors, pickled=None, facts=None, keys=None):
    """A .pth file of PyTorch before 1.6; with other pickles in place of its own."""
    if pickled is None:  # its storages are described by one more value, None
        pickled = state_dict_pickle(tensors).replace(b"tQ", b"NtQ")
    facts = (
        {"protocol_version": 1001, "little_endian": True} if facts is None else facts
    )
    keys = [str(n) for n in range(len(tensors))] if keys is None else keys
    parts = [pickle.dumps(n, protocol=2) for n in (OLD_NUMBER, 1001, facts)]
    parts += [pickled, pickle.dumps(keys, protocol=2)]
    for array in tensors.values():
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


# --- Caffe ------------------------------------------------------------------------------

# Message: fields by name: number, type, whether repeated. As in caffe.proto.
SCHEMA = {
    "BlobShape": {"dim": (1, "int64", True)},
    "BlobProto": {
        "num": (1, "int32", False),
        "channels": (2, "int32", False),
        "height": (3, "int32", False),
        "width": (4, "int32", False),
        "data": (5, "float", True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, "double", True),
    },
    "ConvolutionParameter": {
        "num_output": (1, "uint32", False),
        "pad": (3, "uint32", True),
        "kernel_size": (4, "uint32", True),
        "group": (5, "uint32", False),
        "stride": (6, "uint32", True),
    },
    "PoolingParameter": {
        "pool": (1, "int32", False),
        "kernel_size": (2, "uint32", False),
        "stride": (3, "uint32", False),
    },
    "LRNParameter": {
        "local_size": (1, "uint32", False),
        "alpha": (2, "float", False),
        "beta": (3, "float", False),
        "k": (5, "float", False),
    },
    "LayerParameter": {
        "name": (1, "string", False),
        "type": (2, "string", False),
        "bottom": (3, "string", True),
        "top": (4, "string", True),
        "blobs": (7, "BlobProto", True),
        "convolution_param": (106, "ConvolutionParameter", False),
        "lrn_param": (118, "LRNParameter", False),
        "pooling_param": (121, "PoolingParameter", False),
    },
    "V1LayerParameter": {
        "bottom": (2, "string", True),
        "top": (3, "string", True),
        "name": (4, "string", False),
        "type": (5, "int32", False),
        "blobs": (6, "BlobProto", True),
        "convolution_param": (10, "ConvolutionParameter", False),
        "lrn_param": (18, "LRNParameter", False),
        "pooling_param": (19, "PoolingParameter", False),
    },
    "NetParameter": {
        "name": (1, "string", False),
        "layers": (2, "V1LayerParameter", True),
        "layer": (100, "LayerParameter", True),
    },
}
OLD_TYPES = {
    "Convolution": 4,
    "Dropout": 6,
    "InnerProduct": 14,
    "LRN": 15,
    "Pooling": 17,
    "ReLU": 18,
    "Softmax": 20,
}


def _messages():
    """The messages of `SCHEMA`, by Google's library."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_of_tests.proto", package="ct")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            if kind in SCHEMA:
                made.type, made.type_name = kinds.TYPE_MESSAGE, f".ct.{kind}"
            else:
                made.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if field in ("data", "double_data", "dim"):
                made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ct.{name}"))
        for name in SCHEMA
    }


MESSAGES = _messages()


def blob_message(array, *, legacy=False):
    """A BlobProto; `legacy`: with four sides by name, as before 2014."""
    blob = MESSAGES["BlobProto"](data=array.reshape(-1).tolist())
    if legacy:
        sides = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = sides
    else:
        blob.shape.dim.extend(array.shape)
    return blob


def caffe_layers(*, pool_first, classes="fc8"):
    """(name, type, parameters) of every layer of bvlc_alexnet, or of CaffeNet."""
    norm = {"local_size": 5, "alpha": 1e-4, "beta": 0.75}
    pool = {"pool": 0, "kernel_size": 3, "stride": 2}

    def conv(number, window, stride, pad, group):
        return (
            f"conv{number}",
            "Convolution",
            {
                "kernel_size": window,
                "stride": stride,
                "pad": pad,
                "group": group,
            },
        )

    def after(number):
        parts = [(f"norm{number}", "LRN", norm), (f"pool{number}", "Pooling", pool)]
        return parts[::-1] if pool_first else parts

    def relu(number):
        return f"relu{number}", "ReLU", {}

    found = [conv(1, 11, 4, 0, 1), relu(1), *after(1), conv(2, 5, 1, 2, 2), relu(2)]
    found += [*after(2), conv(3, 3, 1, 1, 1), relu(3), conv(4, 3, 1, 1, 2), relu(4)]
    found += [conv(5, 3, 1, 1, 2), relu(5), ("pool5", "Pooling", pool)]
    for name in ("fc6", "fc7"):
        found += [
            (name, "InnerProduct", {}),
            relu(name[2:]),
            (f"drop{name}", "Dropout", {}),
        ]
    return [*found, (classes, "InnerProduct", {}), ("prob", "Softmax", {})]


PARAMETERS = {
    "Convolution": "convolution_param",
    "LRN": "lrn_param",
    "Pooling": "pooling_param",
}


def caffemodel_bytes(weights, *, layers, old=False):
    """A .caffemodel: `weights` by layer are its arrays, in the order of Caffe's axes."""
    net = MESSAGES["NetParameter"](name="AlexNet")
    bottom = "data"
    for name, kind, numbers in layers:
        layer = net.layers.add() if old else net.layer.add()
        layer.name, layer.type = name, OLD_TYPES[kind] if old else kind
        in_place = kind in ("ReLU", "Dropout")
        layer.bottom.append(bottom)
        bottom = bottom if in_place else name
        layer.top.append(bottom)
        if kind in PARAMETERS:
            held = getattr(layer, PARAMETERS[kind])
            for field, value in numbers.items():
                if SCHEMA[type(held).DESCRIPTOR.name][field][2]:
                    getattr(held, field).append(value)
                else:
                    setattr(held, field, value)
        for array in weights.get(name, ()):
            layer.blobs.append(blob_message(array, legacy=old))
    return net.SerializeToString()


def prototxt(layers, weights, side):
    """The text of the same network for a peer's reader."""
    lines = ['name: "AlexNet"', 'input: "data"']
    lines += [f"input_dim: {n}" for n in (1, 3, side, side)]
    bottom = "data"
    for name, kind, numbers in layers:
        in_place = kind in ("ReLU", "Dropout")
        top = bottom if in_place else name
        inner = dict(numbers)
        if name in weights:
            inner["num_output"] = len(weights[name][1])
        if "pool" in inner:
            inner["pool"] = "MAX"
        block = PARAMETERS.get(kind, "inner_product_param")
        said = " ".join(f"{field}: {value}" for field, value in inner.items())
        lines.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" '
            + (f"{block} {{ {said} }} }}" if inner else "}")
        )
        bottom = top
    return "\n".join(lines)


def random_caffe(layers, channels, *, side=6, classes=1000, seed=0):
    """Weights by layer, (outputs, inputs, height, width), and biases."""
    draws = np.random.default_rng(seed)
    groups = {
        name: n.get("group", 1) for name, kind, n in layers if kind == "Convolution"
    }
    windows = {name: n["kernel_size"] for name, k, n in layers if k == "Convolution"}
    dense = [name for name, kind, _ in layers if kind == "InnerProduct"]
    found, inputs = {}, 3
    for (name, window), outputs in zip(windows.items(), channels[:5], strict=True):
        shape = (outputs, inputs // groups[name], window, window)
        found[name] = _drawn(draws, shape)
        inputs = outputs
    inputs *= side * side
    for name, outputs in zip(dense, (*channels[5:], classes), strict=True):
        found[name] = _drawn(draws, (outputs, inputs))
        inputs = outputs
    return found


def _drawn(draws, shape):
    """Weights that keep the scale of the activations, and biases."""
    std = (2 / np.prod(shape[1:])) ** 0.5
    kernel = draws.normal(0, std, shape).astype(np.float32)
    return [kernel, draws.normal(0, 0.1, shape[0]).astype(np.float32)]
