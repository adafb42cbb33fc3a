"""A network names images, and shows what its layers pass on, as a slow loop would."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.special
from random_network import changed, random_network

from alexnet_jax.data.digits import open_digits
from alexnet_jax.errors import UserError
from alexnet_jax.model.network import root_key
from alexnet_jax.trained import trained_network
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.trained_network import TrainedNetwork
from alexnet_jax.training import step
from alexnet_jax.training.preprocess import InputForm

COUNT = 21  # images, which no batch divides


def through_pickle(network):
    return pickle.loads(pickle.dumps(network))


@pytest.fixture(scope="module")
def network(run_folder):
    """With room for crops: trained on 16 x 16 pixels, it is used on images of 20."""
    found = load(run_folder, arm="ReLU")
    statistics = dataclasses.replace(
        found.trained_on.statistics,
        mean_image=np.random.default_rng(0).uniform(0, 255, (20, 20, 3)),
    )
    return dataclasses.replace(
        changed(found, data__rescale_size=20),
        trained_on=dataclasses.replace(found.trained_on, statistics=statistics),
    )


@pytest.fixture(scope="module")
def normalized(network):
    """The same with batch normalization, whose running statistics are far from a batch's."""
    found = changed(network, model__normalization="batch")
    draws = np.random.default_rng(2)
    of_norms = {
        layer: {
            kind: draws.uniform(0.5, 2, leaf.shape).astype(np.float32)
            for kind, leaf in leaves.items()
        }
        for layer, leaves in found.network.initialize(root_key(0)).items()
        if layer.endswith("_norm")
    }
    assert set(of_norms["conv1_norm"]) == {"mean", "scale", "bias", "var"}
    return dataclasses.replace(found, params=network.params | of_norms)


@pytest.fixture(scope="module")
def pictures():
    draws = np.random.default_rng(1)
    return list(draws.integers(0, 256, (COUNT, 20, 20, 3)).astype(np.uint8))


def slow_probabilities(network, apply, picture, crops):
    """One crop at a time, one image at a time (section 4.1)."""
    mean, form = network.mean, network.form
    places = [(2, 2, 0)]
    if crops == 10:
        corners = [(0, 0), (0, 4), (2, 2), (4, 0), (4, 4)]
        places = [(y, x, m) for m in (0, 1) for y, x in corners]
    found = []
    for y, x, mirrored in places:
        cut, of_mean = (a[y : y + 16, x : x + 16] for a in (picture, mean))
        if form.mean == "center":
            of_mean = mean
        if form.mean == "channel":
            of_mean = mean
        cut = cut[:, ::-1] if mirrored else cut
        if form.mean == "image" and mirrored:
            of_mean = of_mean[:, ::-1]
        x = jnp.asarray((cut - of_mean)[None], jnp.float32)
        logits = apply(network.params, x, None)
        found.append(scipy.special.softmax(np.asarray(logits[0], np.float64)))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("which", ["network", "normalized"])
def test_probabilities_are_those_of_a_slow_loop(which, pictures, crops, request):
    """One image and crop at a time, which no statistics of a batch would survive."""
    network = request.getfixturevalue(which)
    found = network.probabilities(pictures, crops=crops)
    assert found.shape == (COUNT, 10)
    apply = jax.jit(network.network.apply)
    for picture, row in zip(pictures, found, strict=True):
        expected = slow_probabilities(network, apply, picture, crops)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)
    assert isinstance(network.form, InputForm)


def test_classes_are_named_best_first(network, pictures, tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(pictures[1]).save(path)
    content = path.read_bytes()
    found = network.classify([pictures[1], path, str(path), content], top=3)
    for other in found[1:]:  # another place in the batch may round otherwise
        assert [guess.name for guess in other] == [guess.name for guess in found[0]]
        assert other[0].probability == pytest.approx(found[0][0].probability, rel=1e-5)
    expected = network.probabilities([pictures[1]])[0]
    assert [guess.name for guess in found[0]] == [
        str(k) for k in np.argsort(-expected, kind="stable")[:3]
    ]
    assert found[0][0].probability == pytest.approx(expected.max())


def test_each_function_is_compiled_once(network, pictures, monkeypatch):
    """Whichever was asked in between; what is counted is that JAX traces."""
    traced, plain = (
        [],
        {"crops": step.crop_input, "center": trained_network.center_input},
    )

    def counted(name):
        return lambda *given: traced.append(name) or plain[name](*given)

    monkeypatch.setattr(step, "crop_input", counted("crops"))
    monkeypatch.setattr(trained_network, "center_input", counted("center"))
    fresh = dataclasses.replace(network)
    asked = [(1, "fc4"), (10, "conv1")]
    found = []
    for time in range(3):
        for crops, layer in asked:
            found.append(
                [
                    fresh.probabilities(pictures, crops=crops),
                    fresh.features(pictures, layer),
                ]
            )
        if time == 0:
            once = traced.copy()
    assert sorted(set(once)) == ["center", "crops"]
    assert once.count("center") == 2  # a layer each
    assert traced == once
    for later in (found[2:4], found[4:]):
        for one, other in zip(found[:2], later, strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)
    assert (found[0][0] != found[1][0]).any()
    assert found[0][1].shape == (COUNT, 10)
    assert found[1][1].ndim == 4


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, through_pickle])
def test_a_used_network_is_copied(network, pictures, copied):
    used = dataclasses.replace(network)
    expected = used.probabilities(pictures)
    found = copied(used)
    assert "_forward" not in vars(found)
    np.testing.assert_array_equal(found.probabilities(pictures), expected)
    np.testing.assert_array_equal(used.probabilities(pictures), expected)


def test_features_are_the_outputs_of_a_layer(network, pictures):
    assert network.layers == ["conv1", "conv2", "conv3", "fc4"]
    x = np.stack(pictures)[:, 2:18, 2:18].astype(np.float32)
    mean = network.mean[2:18, 2:18] if network.form.mean == "image" else network.mean
    expected = jax.jit(network.network.outputs)(
        network.params, jnp.asarray(x - mean, jnp.float32), None
    )
    for layer in network.layers:
        found = network.features(pictures, layer)
        np.testing.assert_allclose(found, expected[layer], rtol=2e-5, atol=2e-5)
    with pytest.raises(UserError, match=r"no layer 'conv9'.*conv1, conv2, conv3"):
        network.features(pictures, "conv9")


def test_it_is_shown_in_one_line(network):
    assert len(repr(network)) < 300
    assert "10 classes of digits" in repr(network)


def test_a_single_image_is_asked_for_as_a_list(network):
    with pytest.raises(UserError, match="give a list"):
        network.classify("a.jpg")


def test_nothing_and_too_many_crops(network, pictures):
    assert network.classify([]) == []
    assert network.probabilities([]).shape == (0, 10)
    with pytest.raises(UserError, match="5 crops"):
        network.classify(pictures, crops=5)


def test_an_unreadable_image_is_named(network, pictures, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"broken\.png"):
        network.classify([pictures[0], path])


def test_its_errors_are_those_of_training(run_folder):
    """From the digits as image files, against the row that training has recorded."""
    network = load(f"{run_folder}/ReLU/seed0")
    split = open_digits().validation
    read = [split.read(index) for index in range(split.num_examples)]
    found = network.probabilities([content for content, _ in read])
    wrong = found.argmax(axis=1) != np.array([label for _, label in read])
    assert wrong.mean() == pytest.approx(network.measured["top1_error"])


@pytest.mark.slow
def test_classifying_a_file_imports_no_tensorflow(run_folder, tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.zeros((30, 40), np.uint8)).save(path)
    code = (
        "import sys, alexnet_jax;"
        f"print(alexnet_jax.load({str(run_folder / 'ReLU/seed0')!r}).classify([{str(path)!r}]));"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_runs_on_several_devices(network, pictures):
    assert len(jax.devices()) == 8
    one = network.probabilities(pictures[:1])
    np.testing.assert_allclose(network.probabilities(pictures)[:1], one, rtol=1e-5)


def test_a_network_trained_without_a_run_is_saved_and_read_again(tmp_path):
    made = random_network(classes=3, data__rescale_size=72, data__crop_size=64)
    statistics = made.trained_on.statistics
    network = TrainedNetwork.from_training(
        made.settings, made.params, class_names=range(3), statistics=statistics
    )
    assert network.class_names == ("0", "1", "2")
    network.save(tmp_path / "own.safetensors")
    again = load(tmp_path / "own.safetensors")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 80, 72, 3), np.uint8)
    np.testing.assert_array_equal(
        again.probabilities(pictures), network.probabilities(pictures)
    )


def test_as_many_names_are_needed_as_logits():
    made = random_network(classes=3, data__rescale_size=72, data__crop_size=64)
    with pytest.raises(UserError, match="2 names of classes for a network of 3 logits"):
        TrainedNetwork.from_training(
            made.settings,
            made.params,
            class_names=("a", "b"),
            statistics=made.trained_on.statistics,
        )
