"""A network is found by its run, its trial or its checkpoint, and needs no data."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax.data.digits import open_digits
from alexnet_jax.errors import UserError
from alexnet_jax.trained.locate import load
from alexnet_jax.training.saved_network import read_weights

OLD = Path(__file__).parents[1] / "experiment/version_0_1.tar.gz"


def checkpoints_of(run_folder, arm="ReLU"):
    folders = (run_folder / arm / "seed0/checkpoints").iterdir()
    return sorted(
        (one for one in folders if one.name.isdigit()), key=lambda p: int(p.name)
    )


def test_a_run_a_trial_and_a_checkpoint_name_the_same_network(run_folder):
    trial = run_folder / "tanh/seed0"
    last = checkpoints_of(run_folder, "tanh")[-1]
    given = [load(run_folder, arm="tanh"), load(trial), load(f"{trial}@best")]
    given += [load(trial / "checkpoints"), alexnet_jax.load(str(trial))]
    expected, _ = read_weights(trial)
    for network in given:
        assert network.settings.model.activation == "tanh"
        assert network.class_names == tuple("0123456789")
        for layer, arrays in expected.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(network.params[layer][name], array)
    assert load(last).step == int(last.name)
    assert load(f"{trial}@last").step == int(last.name)
    assert load(f"{run_folder}@{last.name}", arm="tanh").step == int(last.name)
    assert load(f"{last}@{last.name}").step == int(last.name)


def test_a_network_of_another_step_than_asked_for_is_refused(run_folder, tmp_path):
    first, *_, last = checkpoints_of(run_folder)
    file = tmp_path / "net.safetensors"
    load(last).save(file)
    for given in (last, file):
        with pytest.raises(UserError, match=f"step {last.name} alone: leave out @"):
            load(f"{given}@{first.name}")
    assert load(f"{file}@{last.name}").step == int(last.name)


def test_its_name_says_which_trial_and_step(run_folder):
    network = load(run_folder, arm="ReLU")
    assert network.origin == f"{run_folder / 'ReLU/seed0'}@{network.step}"
    assert load(network.origin).step == network.step
    checkpoint = checkpoints_of(run_folder)[0]
    assert load(checkpoint).origin == str(checkpoint)


def test_it_knows_its_data_and_its_errors(run_folder):
    network = load(run_folder, arm="ReLU")
    assert network.trained_on.dataset == "digits"
    assert network.trained_on.fingerprint == open_digits().fingerprint
    assert (network.trained_on.num_examples, network.trained_on.validation) == (
        1438,
        "test",
    )
    rows = (run_folder / "ReLU/seed0/metrics.jsonl").read_text().splitlines()
    evaluations = [row for row in map(json.loads, rows) if row["kind"] == "eval"]
    at_its_step = [row for row in evaluations if row["step"] == network.step]
    assert network.measured["top1_error"] == at_its_step[-1]["top1_error"]
    assert network.measured["split"] == "test"


def test_a_checkpoint_may_be_alone_and_its_data_gone(run_folder, tmp_path, monkeypatch):
    alone = tmp_path / "moved"
    shutil.copytree(checkpoints_of(run_folder)[-1], alone)

    def gone(*_, **__):
        raise AssertionError("the data were opened")

    monkeypatch.setattr("alexnet_jax.data.open.open_source", gone)
    network = load(alone)
    assert network.mean.shape[-1] == 3
    assert network.classify([np.zeros((9, 12), np.uint8)])[0][0].name in "0123456789"


def test_a_run_of_an_earlier_version_opens_where_its_data_is(tmp_path, capsys):
    """That of the tests of older versions."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    trial = next(tmp_path.rglob("checkpoints")).parent
    found = load(trial)
    assert found.class_names == tuple("0123456789")
    assert found.mean.shape[-1] == 3
    assert "earlier version" in capsys.readouterr().err


def test_what_is_no_network_is_refused_with_the_way_out(run_folder, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("net.onnx", "net.pth"):
        (tmp_path / name).write_bytes(b"")
    for origin, arm, said in (
        (run_folder, "", "choose one by --arm .*, of ReLU, tanh"),
        (run_folder, "relu", "Did you mean 'ReLU'"),
        (tmp_path / "nothing", "", "No such network"),
        (tmp_path, "", "is not the folder of a run, a trial or a checkpoint.$"),
        (run_folder.parent, "", f"It holds .*{run_folder.name}.*: name one"),
        (tmp_path / "checkpoints", "", "No checkpoint can be read"),
        (tmp_path / "net.onnx", "", "file that it was exported from"),
        (tmp_path / "net.pth", "", "weights import .*net.pth"),
        (run_folder / "ReLU/seed0", "ReLU", "not a run folder"),
        (f"{run_folder}/ReLU/seed0@7", "", "there is none of step 7, but of"),
    ):
        with pytest.raises(UserError, match=said):
            load(origin, arm=arm)


def test_a_trial_that_has_begun_says_that_it_has_no_checkpoint_yet(
    run_folder, tmp_path
):
    begun = tmp_path / "begun"
    shutil.copytree(run_folder, begun)
    trial = begun / "ReLU/seed0"
    shutil.rmtree(trial / "checkpoints")
    for origin, arm in ((begun, "ReLU"), (trial, "")):
        with pytest.raises(UserError, match="seed0 has no checkpoint yet"):
            load(origin, arm=arm)
    shutil.rmtree(trial)
    with pytest.raises(UserError, match="seed0 has no checkpoint yet"):
        load(begun, arm="ReLU")


def test_a_changed_mean_image_is_noticed(run_folder, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(checkpoints_of(run_folder)[-1], damaged)
    for path in sorted((damaged / "statistics").rglob("*")):
        if path.is_file() and path.parent.name == "d":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    with pytest.raises(UserError, match="No checkpoint can be read"):
        load(damaged)
