"""Imported networks compute what independent implementations compute from the same files."""

import numpy as np
import pytest
from foreign_files import (
    blob_message,
    caffe_layers,
    caffemodel_bytes,
    prototxt,
    pth_bytes,
    random_caffe,
)

import alexnet_jax
from alexnet_jax.errors import UserError
from alexnet_jax.trained.exchange import foreign_weights
from alexnet_jax.trained.exchange.caffe_files import read_caffemodel
from alexnet_jax.trained.exchange.importing import import_network

CHANNELS = (16, 32, 24, 16, 8, 20, 12)  # instead of Caffe's and torchvision's
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def mean_image():
    """Blue, green and red, 256 x 256."""
    return np.random.default_rng(3).uniform(90, 130, (3, 256, 256)).astype("f4")


@pytest.fixture(scope="module")
def mean_file(mean_image, tmp_path_factory):
    path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
    path.write_bytes(blob_message(mean_image[None], legacy=True).SerializeToString())
    return path


def images(count=3):
    return np.random.default_rng(4).integers(0, 256, (count, 256, 256, 3), np.uint8)


def assert_same(found, expected):
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    top = np.argsort(-expected, axis=1)[:, :5]
    np.testing.assert_array_equal(np.argsort(-found, axis=1)[:, :5], top)
    assert np.ptp(expected) > 0.1  # otherwise any order would do


@pytest.mark.parametrize("pool_first", [False, True], ids=["alexnet", "caffenet"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_caffes_networks_agree_with_opencv(
    pool_first, old, mean_image, mean_file, tmp_path
):
    dnn = pytest.importorskip("cv2").dnn
    if not hasattr(dnn, "readNetFromCaffe"):
        pytest.skip("this version of OpenCV does not read Caffe's files")
    layers = caffe_layers(pool_first=pool_first)
    weights = random_caffe(layers, CHANNELS)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel_bytes(weights, layers=layers, old=old))
    (tmp_path / "net.prototxt").write_text(prototxt(layers, weights, 227))
    peer = dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(path))
    given = images()
    # Caffe's own preprocessing: blue, green and red, minus the mean at the same place.
    x = given[..., ::-1].transpose(0, 3, 1, 2).astype("f4") - mean_image
    peer.setInput(np.ascontiguousarray(x[:, :, 14:241, 14:241]))
    expected = peer.forward("fc8")

    network = import_network(path, mean=str(mean_file))
    assert_same(network.features(list(given), layer="fc8"), expected)
    order = network.settings.model.layer1_order
    assert order == ("activation pool norm" if pool_first else "activation norm pool")
    assert network.settings.model.norm_alpha == pytest.approx(2e-5, rel=1e-6)
    probabilities = network.probabilities(list(given))
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    peer.setInput(np.ascontiguousarray(x[:, :, 14:241, 14:241]))
    np.testing.assert_allclose(
        probabilities, peer.forward("prob"), rtol=1e-3, atol=1e-7
    )


def torchvision_by_torch(channels, classes=1000):
    """torchvision's AlexNet by PyTorch's layers, with torchvision's names of them."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    c1, c2, c3, c4, c5, f6, f7 = channels
    features = nn.Sequential(
        *(nn.Conv2d(3, c1, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c1, c2, 5, 1, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(c2, c3, 3, 1, 1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(c3, c4, 3, 1, 1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(c4, c5, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
    )
    classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(36 * c5, f6), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Linear(f6, f7), nn.ReLU(inplace=True)),
        nn.Linear(f7, classes),
    )
    parts = {"features": features, "avgpool": nn.AdaptiveAvgPool2d(6)}
    net = nn.ModuleDict({**parts, "classifier": classifier}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            std = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(0, std, generator=torch.Generator().manual_seed(5))
    return net


def logits_of_torch(net, given):
    """After torchvision's own preprocessing of a rescaled image."""
    torch = pytest.importorskip("torch")
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (given[:, 16:240, 16:240] / 255 - mean) / std
    x = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        x = net["avgpool"](net["features"](x))
        return net["classifier"](torch.flatten(x, 1)).numpy()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_network_agrees_with_torch(suffix, tmp_path):
    torch = pytest.importorskip("torch")
    net = torchvision_by_torch(CHANNELS)
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(net.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(net.state_dict(), path)
    network = import_network(path)
    found = network.features(list(images()), layer="fc8")
    assert_same(found, logits_of_torch(net, images()))


def test_an_exported_state_dict_agrees_with_torch(tmp_path):
    """Back into another network of PyTorch, whose weights it replaces."""
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from alexnet_jax.trained.exchange.exporting import export

    tensors = torchvision_by_torch(CHANNELS).state_dict()
    held = {name: tensor.numpy() for name, tensor in tensors.items()}
    (tmp_path / "net.pth").write_bytes(pth_bytes(held))
    network = import_network(tmp_path / "net.pth")
    export(network, tmp_path / "back.safetensors", form="torchvision")
    other = torchvision_by_torch(CHANNELS)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(load_file(tmp_path / "back.safetensors"))
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), held[name])
    found = network.features(list(images()), layer="fc8")
    assert_same(found, logits_of_torch(other, images()))


def test_an_imported_network_is_used_by_its_words(mean_file, tmp_path):
    """Saved, loaded and asked: the 1,000 names come with it."""
    layers = caffe_layers(pool_first=True)
    (tmp_path / "net.caffemodel").write_bytes(
        caffemodel_bytes(random_caffe(layers, CHANNELS), layers=layers)
    )
    network = import_network(tmp_path / "net.caffemodel", mean=str(mean_file))
    network.save(tmp_path / "net.safetensors")
    loaded = alexnet_jax.load(tmp_path / "net.safetensors")
    assert loaded.settings == network.settings
    assert len(loaded.class_names) == 1000
    assert loaded.class_names[0] == "n01440764 tench, Tinca tinca"
    assert (
        loaded.class_names[-1]
        == "n15075141 toilet tissue, toilet paper, bathroom tissue"
    )
    assert list(loaded.class_names) == sorted(loaded.class_names)
    (one,) = loaded.classify(list(images(1)), top=1)
    assert one[0].name in network.class_names
    for layer, arrays in network.params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded.params[layer][name], array)


def test_the_mean_may_be_numpys_or_one_number_a_color(mean_image, mean_file, tmp_path):
    layers = caffe_layers(pool_first=False)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel_bytes(random_caffe(layers, CHANNELS), layers=layers))
    np.save(tmp_path / "image.npy", mean_image)
    np.save(tmp_path / "colors.npy", mean_image.mean(axis=(1, 2)))
    of_image = import_network(path, mean=str(tmp_path / "image.npy"))
    expected = import_network(path, mean=str(mean_file)).mean
    np.testing.assert_array_equal(of_image.mean, expected)
    of_colors = import_network(path, mean=str(tmp_path / "colors.npy"))
    blue, _, red = mean_image.mean(axis=(1, 2))
    assert of_colors.mean.shape == (1, 1, 3)
    assert of_colors.mean[0, 0, [0, 2]] == pytest.approx([red, blue])


@pytest.mark.parametrize(
    ("layer", "changes", "said"),
    [
        ("conv1", {"stride": 2}, "conv1 has stride 2, not 4"),
        ("conv4", {"group": 1}, "conv4 has groups 1, not 2"),
        ("pool5", {"pool": 1}, "pool5 has method 1, not 0"),
        ("norm1", {"alpha": 2e-4}, "normalizations differ"),
        ("relu3", None, "not Caffe's AlexNet: its layers are"),
    ],
)
def test_a_network_of_caffe_that_computes_something_else_is_refused(
    layer, changes, said, tmp_path
):
    """Its weights would fit."""
    layers = caffe_layers(pool_first=False)
    weights = random_caffe(layers, CHANNELS)
    changed = [
        (name, kind, numbers | (changes or {}) if name == layer else numbers)
        for name, kind, numbers in layers
        if name != layer or changes is not None
    ]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel_bytes(weights, layers=changed))
    with pytest.raises(UserError, match=said):
        foreign_weights.from_caffe(read_caffemodel(path), str(path))
