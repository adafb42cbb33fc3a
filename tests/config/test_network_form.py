"""Arms that start from a trained network have its form, unless the command line sets it."""

import itertools
import json
import runpy
import shutil
from pathlib import Path

import pytest
from small_question import resolved

from alexnet_jax.config import base
from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.config.network_form import differences, origin_of, saved_form
from alexnet_jax.config.presets import SMALL_ANY
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError

FINETUNE = Path(__file__).parents[2] / "configs/finetune.py"


def trained(folder, **changes):
    """A trial's folder with one checkpoint, of which only the fields are there."""
    settings = settings_with(**changes)
    fields = fields_of(settings)
    place = folder / "checkpoints/7/position"
    place.mkdir(parents=True)
    (place / "metadata").write_text(json.dumps({"format": 2, "config": fields}))
    return fields


def settings_with(**changes):
    config = base()
    for name, value in changes.items():
        config.set_by("file", name.replace("__", "."), value)
    return resolved(config).trials[0].settings


def finetune(dataset="folder=/x"):
    return runpy.run_path(str(FINETUNE))["get_config"](dataset)


FORM = {"recipe": "caffe", "model__width": 0.5, "data__crop_size": 99}


@pytest.mark.parametrize("given", ["", "checkpoints", "checkpoints/7"])
def test_both_arms_have_the_form_of_the_network(tmp_path, given):
    """The rest is that of the small-data preset, and of the network's recipe."""
    trained(tmp_path, **FORM, data__rescale_size=128, training__num_epochs=3.0)
    plan = resolved(finetune(), training__init_from=str(tmp_path / given))
    assert list(plan.arms) == ["from scratch", "fine-tuned"]
    for trial in plan.trials:
        settings = trial.settings
        assert (settings.model.width, settings.data.crop_size) == (0.5, 99)
        assert (settings.data.channel_order, settings.data.rescale) == ("bgr", "warp")
        assert settings.optimizer.bias_lr_multiplier == 2.0
        for name in ("num_epochs", "batch_size"):
            assert settings.training[name] == SMALL_ANY[f"training.{name}"]
    layers = [plan.layers[n] for n in ("recipe", "model.width", "data.channel_order")]
    assert layers == ["network", "network", "recipe"]
    again = ExperimentPlan.of_json(plan.as_json())
    assert again.differences(plan) == {}


def test_only_the_fine_tuned_arm_starts_from_the_network(tmp_path):
    trained(tmp_path)
    flags = {"training__init_from": str(tmp_path), "optimizer__frozen_layers": 5}
    found = {
        trial.arm: (
            trial.settings.training.init_from,
            trial.settings.optimizer.frozen_layers,
            trial.settings.optimizer.layer_lr_multipliers,
        )
        for trial in resolved(finetune(), **flags).trials
    }
    assert found == {
        "from scratch": ("", 0, ""),
        "fine-tuned": (str(tmp_path), 5, "others=0.1,last=1"),
    }


def test_the_command_line_overrides_the_form(tmp_path):
    trained(tmp_path, **FORM, data__rescale_size=128)
    given = {"training__init_from": str(tmp_path), "data__channel_order": "rgb"}
    plan = resolved(finetune(), **given)
    assert plan.values["data.channel_order"] == "rgb"
    assert plan.values["data.crop_size"] == 99
    assert plan.layers["data.channel_order"] == "command line"


def test_a_network_of_another_kind_gives_its_own_layers(tmp_path):
    config = base(network="four_layer")
    fields = fields_of(resolved(config).trials[0].settings)
    (tmp_path / "position").mkdir()
    (tmp_path / "position/metadata").write_text(json.dumps({"config": fields}))
    plan = resolved(finetune(), training__init_from=str(tmp_path))
    assert {t.settings.model.name for t in plan.trials} == {"four_layer"}
    assert {t.settings.data.crop_size for t in plan.trials} == {32}


def test_the_form_is_read_from_an_exported_file(tmp_path):
    fields = trained(tmp_path, **FORM, data__rescale_size=128)
    header = json.dumps({"__metadata__": {"settings": json.dumps(fields)}}).encode()
    file = tmp_path / "net.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert saved_form(str(file)) == saved_form(str(tmp_path))


def test_fields_that_an_older_version_lacked_have_their_defaults(tmp_path):
    fields = trained(tmp_path)
    del fields["model.towers"]
    (tmp_path / "checkpoints/7/position/metadata").write_text(
        json.dumps({"config": fields})
    )
    assert saved_form(str(tmp_path))["model.towers"] == 2


def test_what_is_no_network_is_refused_with_what_to_give(tmp_path):
    run = tmp_path / "run"
    trained(run / "arm/seed0")
    (run / "experiment.json").touch()
    (tmp_path / "empty/checkpoints").mkdir(parents=True)
    files = {
        "text": b"no header",
        "huge": (2**60).to_bytes(8, "little"),
        "short": b"12",
        "other": (2).to_bytes(8, "little") + b"{}",
        "list": (2).to_bytes(8, "little") + b"[]",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "empty"):
        with pytest.raises(UserError, match=r"no trained network.*Give a trial's"):
            saved_form(str(tmp_path / name))
    with pytest.raises(UserError, match="It does not exist"):
        saved_form(str(tmp_path / "nowhere"))
    shutil.rmtree(run / "arm")
    with pytest.raises(UserError, match=r"whole run: it has no trained network"):
        saved_form(str(run))


def test_of_a_run_with_one_arm_it_is_the_selected_trial(tmp_path):
    """Of several arms their selected trials are named; a checkpoint may be chosen too."""
    rates = ("0.002", "0.004")
    for rate, seed in itertools.product(rates, ("seed0", "seed1", "seed1000")):
        trained(tmp_path / f"one/learning_rate={rate}/{seed}")
    (tmp_path / "experiment.json").touch()
    tuned = {"tuned": {"optimizer.learning_rate": 0.004}}
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"arms": {"one": tuned}}))
    selected = tmp_path / "one/learning_rate=0.004/seed0"
    assert origin_of(str(tmp_path)) == (selected, "best")
    assert origin_of(f"{tmp_path}@7") == (selected, "7")
    assert origin_of(f"{selected}@last") == (selected, "last")
    saved_form(f"{tmp_path}@7")
    trained(tmp_path / "two/seed0")
    summary.write_text(json.dumps({"arms": {"one": tuned, "two": {"tuned": {}}}}))
    with pytest.raises(UserError, match=r"give one of its trials: .*") as raised:
        origin_of(str(tmp_path))
    shown = str(raised.value).split("trials: ")[1]
    assert shown == f"{selected}, {tmp_path}/two/seed0."


def test_only_what_a_networks_weights_depend_on_counts_as_a_difference():
    there = fields_of(settings_with(recipe="caffe"))
    here = settings_with(optimizer__learning_rate=0.5, model__dropout_rate=0.1)
    found = differences(there, here)
    assert found["data.channel_order"] == ("bgr", "rgb")
    assert found["data.crop_size"] == (227, 224)
    assert not {"recipe", "model.biases", "model.dropout_rate"} & found.keys()
    assert differences(fields_of(here), here) == {}
