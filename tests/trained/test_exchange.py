"""The command weights, from a foreign file to an answer."""

import numpy as np
import PIL.Image
import pytest
from foreign_files import pth_bytes
from forked import command
from random_network import random_network

from alexnet_jax.trained.exchange import foreign_weights, weights_command
from alexnet_jax.trained.exchange.foreign_classes import imagenet_classes


@pytest.mark.slow
def test_from_a_file_of_torchvision_to_names_and_on_to_stablehlo(tmp_path):
    params = random_network("torchvision", classes=1000).params
    tensors = foreign_weights.to_torchvision(params)
    (tmp_path / "net.pth").write_bytes(pth_bytes(tensors))
    net = tmp_path / "net.safetensors"
    done = command(
        "alexnet_jax", "weights", "import", tmp_path / "net.pth", f"--output={net}"
    )
    assert done.returncode == 0, done.stderr
    assert "recipe torchvision" in done.stdout
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    done = command("alexnet_jax", "predict", net, tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    words = {name.split(",")[0][10:] for name in imagenet_classes()}
    assert any(word in done.stdout for word in words)
    done = command(
        "alexnet_jax", "weights", "export", net, f"--output={tmp_path}/net.stablehlo"
    )
    assert done.returncode == 0, done.stderr
    assert "uint8 images (n, 224, 224, 3)" in done.stdout
    assert (tmp_path / "net.stablehlo").stat().st_size > 10_000


@pytest.mark.slow
def test_mistakes_end_with_a_message_and_a_status(tmp_path):
    for arguments, said in (
        (["exprot", "RUN"], "Did you mean 'export'"),
        (["import", "net.pth"], "Give one network and --output"),
        (["import", "a", "--output=b.safetensors", "--arm=x"], "--arm has no effect"),
        (
            ["export", tmp_path / "none", f"--output={tmp_path}/b.onnx"],
            "No such network",
        ),
        (
            ["import", tmp_path / "none.pth", f"--output={tmp_path}/b.safetensors"],
            "No such",
        ),
    ):
        done = command("alexnet_jax", "weights", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_export_says_what_it_takes(tmp_path):
    small = {"data__rescale_size": 80, "data__crop_size": 67}
    random_network("caffe", **small).save(tmp_path / "a.safetensors")
    said = weights_command.exported(
        str(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", "", ""
    )
    assert said.splitlines()[-1] == "Read again: bit-identical."
