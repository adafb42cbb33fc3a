"""configs/finetune.py from end to end: digits 0 to 4, then 5 to 7 under other names."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from few_digits import few_digits
from foreign_files import pth_bytes
from random_network import random_network
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.config.sharing import value_in
from alexnet_jax.data.types import GrayImages
from alexnet_jax.errors import UserError
from alexnet_jax.experiment import datasets, preflight, runner
from alexnet_jax.trained.exchange import foreign_weights
from alexnet_jax.trained.exchange.importing import import_network
from alexnet_jax.trained.locate import load
from alexnet_jax.training.saved_network import read_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def digits_of(first, last, names):
    """The digits from `first` to `last`, in classes with other names."""
    source = few_digits()

    def some(split):
        images, labels = split.gray
        kept = (labels >= first) & (labels <= last)
        gray = GrayImages(images[kept], labels[kept] - first)
        return dataclasses.replace(split, num_examples=int(kept.sum()), gray=gray)

    return dataclasses.replace(
        source,
        train=some(source.train),
        validation=some(source.validation),
        class_names=tuple(names),
        fingerprint="-".join(names),
    )


def run_on(source, plan, folder, monkeypatch):
    monkeypatch.setattr(datasets, "open_source", lambda *_, **__: source)
    return runner.run(plan, folder)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A trial's folder: a four-layer network of five digits, 16 x 16 pixels."""
    folder = tmp_path_factory.mktemp("network")
    config = base(network="four_layer")
    config.experiment = "network"
    config.model.width = 0.25
    config.model.weight_stds = (0.01, 0.03, 0.03, 0.03)
    config.data.rescale_size = config.data.crop_size = 16
    config.training.batch_size = 32
    config.training.num_epochs = 6.0
    config.training.log_every_epochs = 1.0
    with pytest.MonkeyPatch.context() as patch:
        run_on(digits_of(0, 4, "01234"), resolved(config), folder, patch)
    return folder / "network/seed0"


FLAGS = {
    "seeds": 2,
    "training__num_epochs": 2.0,
    "optimizer__drop_epochs": (),
    "optimizer__frozen_layers": 1,
}


def finetune(network):
    config = runpy.run_path(str(ROOT / "configs/finetune.py"))["get_config"]()
    return resolved(config, training__init_from=str(network), **FLAGS)


def test_a_network_is_fine_tuned_and_compared_with_one_from_scratch(
    network, tmp_path, monkeypatch, capsys
):
    """Other classes, and fewer. The first layer stays, the second moves, the last is new."""
    source = digits_of(5, 7, ("five", "six", "seven"))
    printed = run_on(source, finetune(network), tmp_path / "run", monkeypatch)
    assert f"fine-tuned starts from {network}/checkpoints/" in capsys.readouterr().err
    held, _ = read_weights(network)
    for seed in range(2):
        tuned, _ = read_weights(tmp_path / f"run/fine-tuned/seed{seed}", "last")
        scratch, _ = read_weights(tmp_path / f"run/from scratch/seed{seed}", "last")
        for kind in ("kernel", "bias"):
            assert tuned["conv1"][kind].tobytes() == held["conv1"][kind].tobytes()
        assert tuned["fc4"]["kernel"].shape == (held["fc4"]["kernel"].shape[0], 3)
        assert (scratch["conv1"]["kernel"] != held["conv1"]["kernel"]).any()
    # Seed 1 draws other weights than the network's seed 0.
    kernels = [one["conv2"]["kernel"].ravel() for one in (held, tuned, scratch)]
    of_tuned, of_scratch = np.corrcoef(kernels)[0, 1:]
    assert of_scratch < 0.3 < 0.7 < of_tuned < 1
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert {arm: facts.get("init_from") for arm, facts in summary["arms"].items()} == {
        "from scratch": None,
        "fine-tuned": str(network),
    }
    assert summary["arms"]["fine-tuned"]["final_top1_error"] < 0.3
    (comparison,) = summary["comparisons"]
    assert comparison["compare"] == ["fine-tuned", "from scratch"]
    assert "2 paired seeds" in printed
    report = (tmp_path / "run/report.md").read_text()
    assert f"'fine-tuned' start from the trained network {network}" in report


def test_an_imported_network_of_torchvision_is_fine_tuned(tmp_path, monkeypatch):
    """From a .pth file, in its form: torchvision's recipe on images of 224 pixels."""
    narrow = random_network(
        "torchvision", classes=5, model__channels=(8, 8, 8, 8, 8, 0, 12, 12)
    )
    given, net = tmp_path / "net.pth", tmp_path / "net.safetensors"
    given.write_bytes(pth_bytes(foreign_weights.to_torchvision(narrow.params)))
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\ne\n")
    config = runpy.run_path(str(ROOT / "configs/finetune.py"))["get_config"]()
    with pytest.raises(UserError, match=r"weights import .*net\.pth"):
        resolved(config, training__init_from=str(given), **FLAGS)
    import_network(given, classes=str(names)).save(net)
    flags = {**FLAGS, "seeds": 1, "training__num_epochs": 0.2}
    plan = resolved(config, training__init_from=str(net), **flags)
    source = digits_of(5, 7, ("five", "six", "seven"))
    run_on(source, plan, tmp_path / "run", monkeypatch)
    tuned = load(tmp_path / "run", arm="fine-tuned")
    assert tuned.settings.recipe == "torchvision"
    assert tuned.settings.data.crop_size == 224
    kernels = [one.params["conv1"]["kernel"] for one in (narrow, tuned)]
    np.testing.assert_array_equal(*kernels)  # frozen
    assert tuned.params["fc8"]["kernel"].shape == (12, 3)
    assert (tuned.params["conv2"]["kernel"] != narrow.params["conv2"]["kernel"]).any()


def test_a_network_that_does_not_fit_is_refused_before_anything_is_written(
    network, tmp_path, monkeypatch
):
    config = runpy.run_path(str(ROOT / "configs/finetune.py"))["get_config"]()
    wider = {"training__init_from": str(network), "model__width": 0.5}
    plan = resolved(config, **wider, optimizer__drop_epochs=())
    assert value_in(plan.values, {}, "model.width") == 0.5
    for command in (runner, preflight):
        with pytest.raises(UserError, match="That network was trained with --config"):
            command.run(plan, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
