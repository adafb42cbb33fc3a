"""What is exported computes what the network computes, in other programs as well."""

import dataclasses
import errno
import json

import jax
import numpy as np
import pytest
from random_network import changed, random_network

import alexnet_jax
from alexnet_jax.data.digits import open_digits
from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.errors import UserError
from alexnet_jax.model import layers
from alexnet_jax.trained.exchange import exporting, onnx_graph
from alexnet_jax.trained.exchange.exporting import export
from alexnet_jax.trained.exchange.importing import import_network
from alexnet_jax.training.saved_network import read_safetensors

SMALL = {"data__rescale_size": 80, "data__crop_size": 67}
FOUR_LAYER = {
    "model__name": "four_layer",
    "model__towers": 1,
    "model__channels": (16, 32, 24),
    "model__weight_stds": (0.1,) * 4,
    "model__biases": (0.0,) * 4,
}


def crops(network, count=5):
    """Random images as the network's preprocessing begins with them, and their centers."""
    side, crop = network.settings.data.rescale_size, network.form.crop_size
    images = np.random.default_rng(1).integers(0, 256, (count, side, side, 3), np.uint8)
    begin = (side - crop) // 2
    return list(images), images[:, begin : begin + crop, begin : begin + crop]


def assert_same_network(found, expected):
    for layer, arrays in expected.params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found.params[layer][name], array)
    for name, array in expected.trained_on.arrays().items():
        np.testing.assert_array_equal(found.trained_on.arrays()[name], array)
    assert list(found.params) == list(expected.params)
    assert found.trained_on.facts() == expected.trained_on.facts()
    assert (found.step, found.measured) == (expected.step, expected.measured)


@pytest.mark.slow
def test_a_run_becomes_one_file_that_is_used_like_it(run_folder, tmp_path):
    run = alexnet_jax.load(run_folder, arm="tanh")
    path = tmp_path / "net.safetensors"
    assert export(run, path).compared == "bit-identical"
    network = alexnet_jax.load(path)
    assert_same_network(network, run)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), np.uint8))
    assert network.classify(images) == run.classify(images)
    assert network.evaluate("digits").top1_errors == run.evaluate("digits").top1_errors
    np.testing.assert_array_equal(
        network.features(images, network.layers[-2]),
        run.features(images, network.layers[-2]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", alexnet_jax.RECIPES)
def test_stablehlo_gives_the_same_for_any_number_of_images(recipe, tmp_path):
    # 24 kernels of the first layer: a CPU convolves with an added channel.
    channels = (24, 32, 24, 24, 16, 0, 20, 20)
    network = random_network(recipe, **SMALL, model__channels=channels)
    export(network, tmp_path / "net.stablehlo")
    program = jax.export.deserialize(
        bytearray((tmp_path / "net.stablehlo").read_bytes())
    )
    assert set(program.platforms) >= {"cpu", "cuda", "tpu"}
    images, centers = crops(network)
    for count in (1, 5):
        found = np.exp(program.call(centers[:count]))
        expected = network.probabilities(images[:count])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("paper", {}),
        ("source2012", {}),
        ("caffe", {"model__layer1_order": "activation pool norm"}),
        ("torchvision", {}),
        ("source2012", {"data__crop_size": 63, "model__activation": "tanh"}),
        ("paper", {"model__channels": (16, 32, 0, 24, 16, 8, 0, 20)}),
        ("paper", {"model__name": "zfnet", "model__towers": 1, "data__crop_size": 79}),
        ("torchvision", {"model__normalization": "batch"}),
        ("source2012", {"model__normalization": "group", "model__activation": "gelu"}),
        ("caffe", {"model__normalization": "layer", "model__activation": "silu"}),
        ("torchvision", {"model__activation": "leaky_relu"}),
        ("caffe", {"model__activation": "softplus"}),
        ("source2012", {**FOUR_LAYER, "model__dropout_rate": 0.5}),
        ("source2012", {**FOUR_LAYER, "model__activation": "sigmoid"}),
        ("paper", {**FOUR_LAYER, "model__normalization": "batch"}),
        ("caffe", {**FOUR_LAYER, "model__normalization": "layer"}),
        ("paper", {"model__dropout_form": "mask", "model__dropout_place": "before"}),
    ],
)
def test_onnx_gives_the_same_in_onnxruntime(recipe, changes, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    network = random_network(recipe, **SMALL | changes)
    path = tmp_path / "net.onnx"
    export(network, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images, centers = crops(network)
    for count in (1, 5):
        (found,) = session.run(None, {"images": centers[:count]})
        expected = network.probabilities(images[:count])
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4, atol=1e-7)
    assert np.ptp(expected) > 0.01
    (held,) = onnx.load(path).metadata_props
    assert (held.key, json.loads(held.value)) == ("classes", list(network.class_names))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".stablehlo", ".onnx"])
def test_an_exported_program_makes_the_networks_errors(suffix, tmp_path):
    """All 359 test digits, by what the program says in place of the network."""
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    network = random_network("source2012", classes=10, **SMALL)
    digits = open_digits()
    trained_on = dataclasses.replace(
        network.trained_on, class_names=tuple(digits.class_names)
    )
    network = dataclasses.replace(network, trained_on=trained_on)
    path = tmp_path / f"net{suffix}"
    export(network, path)
    if suffix == ".onnx":
        run = onnx_graph.session(path)
    else:
        run = jax.export.deserialize(bytearray(path.read_bytes())).call

    side, crop = network.settings.data.rescale_size, network.form.crop_size
    begin = (side - crop) // 2
    inside = slice(begin, begin + crop)
    split = RescaledSplit(digits.validation, side, "shorter_side")
    found, labels = [], []
    for batch in evaluation_batches(split, batch_size=100):
        real = batch["weight"] > 0
        labels.append(batch["label"][real])
        found.append(np.asarray(run(batch["image"][real][:, inside, inside])))
    logarithms, labels = np.concatenate(found), np.concatenate(labels)
    order = np.argsort(-logarithms, axis=1)
    expected = network.evaluate("digits")
    assert (order[:, 0] != labels).sum() == expected.top1_errors
    assert (order[:, :5] != labels[:, None]).all(axis=1).sum() == expected.top5_errors
    loss = -logarithms[np.arange(len(labels)), labels].mean()
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert 0 < expected.top5_errors < expected.top1_errors < 359


@pytest.mark.slow
def test_batch_normalization_is_exported_with_its_statistics(tmp_path):
    """And is used with them, whatever else is in the batch; ten crops too."""
    network = random_network("source2012", **SMALL, model__normalization="batch")
    export(network, tmp_path / "net.safetensors")
    assert_same_network(alexnet_jax.load(tmp_path / "net.safetensors"), network)
    export(network, tmp_path / "net.stablehlo")
    program = jax.export.deserialize(
        bytearray((tmp_path / "net.stablehlo").read_bytes())
    )
    images, centers = crops(network)
    expected = network.probabilities(images)
    found = np.exp(program.call(centers))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    for crops_of in (1, 10):
        together = network.probabilities(images, crops=crops_of)
        alone = [
            network.probabilities(images[i : i + 1], crops=crops_of) for i in range(3)
        ]
        np.testing.assert_allclose(together[:3], np.concatenate(alone), rtol=1e-4)
    assert np.ptp(expected) > 0.01


def test_a_state_dict_of_torchvision_comes_back_bit_equal(tmp_path):
    network = random_network("torchvision", classes=1000)
    said = export(network, tmp_path / "net.safetensors", form="torchvision")
    assert "mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in said.what
    tensors, _ = read_safetensors(tmp_path / "net.safetensors")
    assert tensors["features.0.weight"].shape == (16, 3, 11, 11)
    found = import_network(tmp_path / "net.safetensors")
    for layer, arrays in network.params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found.params[layer][name], array)


@pytest.mark.parametrize(
    ("name", "form", "changes", "said"),
    [
        ("net.safetensors", "torchvision", {}, "model.towers=2 in place of 1"),
        ("net.txt", "", {}, "give a name that ends in .safetensors"),
        ("net.onnx", "torchvision", {}, "only 'torchvision', as .safetensors"),
        ("missing/net.onnx", "", {}, "there is no such folder"),
        ("net.onnx", "", {"model__norm_depth": 4}, "model.norm_depth=4"),
        ("net.onnx", "", {"model__norm_alpha": 0.0}, "model.norm_alpha=0.0"),
        ("net.onnx", "", {"model__dtype": "bfloat16"}, "model.dtype=bfloat16"),
    ],
)
def test_what_cannot_be_exported_is_refused(name, form, changes, said, tmp_path):
    network = random_network("source2012", **SMALL | changes)
    with pytest.raises(UserError, match=said):
        export(network, tmp_path / name, form=form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_program_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    network = random_network("caffe", **SMALL)
    other = random_network("caffe", **SMALL | {"model__norm_alpha": 1e-2})
    program = exporting.program_of(other)
    monkeypatch.setattr(exporting, "program_of", lambda _: program)
    (tmp_path / "net.stablehlo").write_bytes(b"of before")
    with pytest.raises(UserError, match="computes something else"):
        export(network, tmp_path / "net.stablehlo")
    assert (tmp_path / "net.stablehlo").read_bytes() == b"of before"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_activation_without_a_row_for_onnx_is_refused(tmp_path, monkeypatch):
    assert onnx_graph.ACTIVATIONS.keys() == layers.ACTIVATIONS.keys()
    monkeypatch.delitem(onnx_graph.ACTIVATIONS, "tanh")
    network = random_network("caffe", **SMALL, model__activation="tanh")
    with pytest.raises(UserError, match="activation=tanh is not exported"):
        export(network, tmp_path / "net.onnx")


def test_onnx_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"'\.\[onnx\]'"):
        export(random_network("caffe", **SMALL), tmp_path / "net.onnx")


def test_an_exported_file_of_another_network_is_refused(tmp_path):
    """Settings and weights that do not belong together: both shapes are named."""
    network = random_network("caffe", **SMALL)
    wrong = changed(network, model__channels=(24, 32, 24, 24, 16, 0, 20, 20))
    wrong.save(tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=r"layer conv1 has .*11, 3, 16.*11, 3, 24"):
        alexnet_jax.load(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["net.safetensors", "net.stablehlo"])
def test_a_full_disk_is_reported_with_the_name_that_was_given(
    name, tmp_path, monkeypatch
):
    """Not with that of a draft, and none is left behind."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        export(random_network("caffe", **SMALL), tmp_path / name)
    assert raised.value.filename == str(tmp_path / name)
    assert not list(tmp_path.iterdir())
