"""What cannot be imported is refused with the reason and the way out, and nothing written."""

import numpy as np
import pytest
from foreign_files import (
    blob_message,
    caffe_layers,
    caffemodel_bytes,
    pth_bytes,
    random_caffe,
)
from random_network import random_network

from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange import foreign_weights
from alexnet_jax.trained.exchange.foreign_classes import imagenet_classes
from alexnet_jax.trained.exchange.importing import import_network
from alexnet_jax.trained.exchange.weights_command import imported
from alexnet_jax.trained.locate import load

CHANNELS = (16, 8, 8, 8, 8, 20, 12)


def torchvision_tensors(classes=1000, channels=CHANNELS):
    network = random_network(
        "torchvision",
        classes=classes,
        model__channels=(*channels[:5], 0, *channels[5:]),
    )
    return foreign_weights.to_torchvision(network.params)


@pytest.fixture(scope="module")
def tensors():
    return torchvision_tensors()


@pytest.fixture
def pth(tensors, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(pth_bytes(tensors))
    return path


@pytest.fixture
def caffemodel(tmp_path):
    layers = caffe_layers(pool_first=False)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel_bytes(random_caffe(layers, CHANNELS), layers=layers))
    return path


def test_the_recipe_and_its_preprocessing_are_torchvisions(pth):
    network = import_network(pth)
    settings = network.settings
    assert settings.recipe == "torchvision"
    assert (settings.data.crop_size, settings.data.rescale) == (224, "shorter_side")
    assert settings.data.channel_order == "rgb"
    assert network.mean.reshape(-1) == pytest.approx([123.675, 116.28, 103.53])
    assert network.class_names == imagenet_classes()
    assert settings.data.dataset == "imagenet2012"


def test_names_of_several_gpus_are_understood(tensors, tmp_path):
    spread = {
        name.replace("features.", "features.module."): array
        for name, array in tensors.items()
    }
    for prefix, held in (("", spread), ("module.", tensors)):
        path = tmp_path / "net.pth"
        path.write_bytes(pth_bytes({f"{prefix}{n}": x for n, x in held.items()}))
        kernel = import_network(path).params["conv1"]["kernel"]
        expected = tensors["features.0.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # VGG's first layer, and ResNet's.
        (
            {"features.0.weight": np.zeros((64, 3, 3, 3), "f4")},
            r"features.0.weight of shape \(64, 3, 11, 11\): it has one of shape "
            r"\(64, 3, 3, 3\)",
        ),
        ({"features.0.weight": None}, "it has none. It begins with"),
        ({"features.0.bias": None}, r"lacks features\.0\.bias"),
        ({"bn.weight": np.zeros(3, "f4")}, r"has bn\.weight besides"),
        ({"features.3.weight": np.zeros((8, 5, 5, 5), "f4")}, "layer conv2 has"),
        ({"features.3.bias": np.zeros(9, "f4")}, "do not belong together"),
        ({"classifier.1.weight": np.zeros((20, 7), "f4")}, "no square maps"),
        ({"classifier.1.weight": np.zeros((20, 8 * 25), "f4")}, "layer fc6 has"),
        ({"features.0.bias": np.full(16, np.nan, "f4")}, "not finite"),
        ({"classifier.4.weight": np.full((12, 20), np.inf, "f4")}, "not finite"),
    ],
)
def test_another_network_is_refused_with_both_shapes(changes, said, tensors, tmp_path):
    path = tmp_path / "net.pth"
    held = {n: x for n, x in (tensors | changes).items() if x is not None}
    path.write_bytes(pth_bytes(held))
    with pytest.raises(UserError, match=said):
        import_network(path)


def test_as_many_names_as_outputs(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(pth_bytes(torchvision_tensors(classes=3)))
    with pytest.raises(UserError, match=r"3 outputs.*--classes=FILE"):
        import_network(path)
    names = tmp_path / "names.txt"
    for text, said in (
        ("cat\ndog\n", "has 2 names, and .* 3 outputs"),
        ("cat\ndog\ncat\n", "line 3: 'cat' is also in line 1"),
        ("cat\n\ndog\n", "line 2: a line without a name"),
        ("\xff", "not UTF-8"),
    ):
        names.write_bytes(text.encode("latin1"))
        with pytest.raises(UserError, match=said):
            import_network(path, classes=str(names))
    names.write_text("cat\ndog\nguinea pig\n")
    network = import_network(path, classes=str(names))
    assert network.class_names == ("cat", "dog", "guinea pig")
    with pytest.raises(UserError, match="No such file"):
        import_network(path, classes=str(tmp_path / "missing"))


def test_caffe_needs_its_mean_and_torchvision_none(pth, caffemodel, tmp_path):
    with pytest.raises(UserError, match="--mean=FILE"):
        import_network(caffemodel)
    with pytest.raises(UserError, match="--mean is for Caffe"):
        import_network(pth, mean="mean.npy")
    mean = tmp_path / "mean.npy"
    for array, said in (
        (np.zeros((3, 200, 200)), "200 x 200 pixels"),
        (np.zeros((3, 256, 300)), "256 x 300 pixels"),
        (np.zeros((3, 230, 0)), "230 x 0 pixels"),
        (np.zeros((3, 0, 0)), "0 x 0 pixels"),
        (np.zeros((256, 256, 3)), "has \\(3, height, width\\)"),
        (np.full((3, 256, 256), 300.0), "from 0 to 255"),
        (np.full((3, 256, 256), np.nan), "from 0 to 255"),
        (np.array([{}, {}, {}]), "no .npy file"),
    ):
        np.save(mean, array)
        with pytest.raises(UserError, match=said):
            import_network(caffemodel, mean=str(mean))
    claims = {"descr": "<f4", "fortran_order": False, "shape": (3, 2**20, 2**20)}
    header = str(claims).encode().ljust(117) + b"\n"
    mean.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match=r"no \.npy file"):
        import_network(caffemodel, mean=str(mean))


def test_what_is_written_is_read_again_and_said(caffemodel, tmp_path):
    mean = tmp_path / "mean.binaryproto"
    image = np.full((3, 256, 256), 120, "f4")
    mean.write_bytes(blob_message(image).SerializeToString())
    output = tmp_path / "net.safetensors"
    said = imported(caffemodel, output, str(mean), "")
    assert (
        "recipe caffe; images rescaled to 256 pixels (warp), center crop of 227" in said
    )
    assert "1,000 classes, 'n01440764 tench, Tinca tinca'" in said
    assert "bit-identical" in said
    assert load(output).settings.data.channel_order == "bgr"
    # A second import takes its place.
    assert imported(caffemodel, output, str(mean), "") == said


def test_outputs_that_cannot_be_written_are_refused_before(pth, tmp_path):
    state_dict = tmp_path / "net.safetensors"
    for output, said in (
        (tmp_path / "net.bin", "ends in .safetensors"),
        (tmp_path / "missing/net.safetensors", "no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            imported(pth, output, "", "")
    imported(pth, state_dict, "", "")
    with pytest.raises(UserError, match="is the file to import"):
        imported(state_dict, state_dict, "", "")
    with pytest.raises(UserError, match="needs no import"):
        imported(state_dict, tmp_path / "other.safetensors", "", "")
    with pytest.raises(UserError, match=r"ends in \.pth"):
        imported(tmp_path / "net.h5", tmp_path / "other.safetensors", "", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pth", "net.safetensors"]


def test_weights_that_were_not_imported_say_so(pth):
    with pytest.raises(UserError, match="weights import"):
        load(pth)


def test_the_words_are_imagenets():
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert [name.split()[0] for name in names] == sorted(n.split()[0] for n in names)
    assert names[281].endswith(
        "tabby, tabby cat"
    )  # as torchvision and Caffe number them
    assert names[895].endswith("warplane, military plane")
