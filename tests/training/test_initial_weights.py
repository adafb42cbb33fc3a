"""The networks from which trials start are checked before anything is written."""

import pytest
from few_digits import few_digits
from ml_collections import FrozenConfigDict
from small_trial import placed_initial_state, tiny

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.data.pipeline import load_data
from alexnet_jax.errors import UserError
from alexnet_jax.training import initial_weights
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_files import Position
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.initial_weights import check_origins
from alexnet_jax.training.trained_on import TrainedOn


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a trial with a checkpoint of its initial weights."""
    folder, devices, config = tmp_path_factory.mktemp("network"), Devices(), tiny()
    source = few_digits(train=160, held_out=32)
    data = load_data(source, rescale="shorter_side", rescale_size=16)
    state = placed_initial_state(config, data, devices)
    fields, trained_on = fields_of(FrozenConfigDict(config)), TrainedOn.of(data)
    with Checkpoints(folder, fields, devices, trained_on) as checkpoints:
        position = Position(step=3, evaluation={"top1_error": 0.25})
        checkpoints.save(state, position)
    return folder


def checked(network, **changes):
    settings = FrozenConfigDict(tiny(training__init_from=str(network), **changes))
    return check_origins([("arm", settings), ("arm", settings)])


def test_a_network_is_named_once_with_its_data_and_error(network):
    (said,) = checked(network)
    assert said == (
        f"arm starts from {network}/checkpoints/3 (step 3; digits, 10 classes; top-1 error "
        "there 25.0%), in all layers but the last."
    )
    assert checked("") == []


def test_another_form_of_the_same_shapes_is_said(network):
    (said,) = checked(network, data__channel_order="bgr", model__activation="tanh")
    assert said.splitlines()[1:] == [
        "  model.activation: relu there, tanh here",
        "  data.channel_order: rgb there, bgr here",
    ]


def test_other_shapes_are_refused_with_the_flags_that_fit(network):
    with pytest.raises(UserError) as caught:
        checked(network, model__channels=(32, 48, 64))
    first, *others, last = str(caught.value).splitlines()
    assert first.startswith("config.training.init_from: the layers of ")
    assert [line.split(":")[0].strip() for line in others] == ["conv2", "conv3"]
    assert last == "That network was trained with --config.model.channels=32,32,64"


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_a_network_without_the_parameters_of_normalization_is_refused(network, kind):
    with pytest.raises(UserError) as caught:
        checked(network, model__normalization=kind)
    first, *others, last = str(caught.value).splitlines()
    assert first.startswith("config.training.init_from: the layers of ")
    assert [line.split(":")[0].strip() for line in others] == [
        "conv1_norm",
        "conv2_norm",
        "conv3_norm",
    ]
    assert all(": none there, " in line for line in others)
    assert last.startswith("That network was trained with ")
    assert "--config.model.normalization=" in last


def test_a_network_with_a_layer_more_is_refused(network, monkeypatch):
    params, *rest = initial_weights.read_network(network)
    more = params | {"conv4": params["conv3"]}
    more = dict(sorted(more.items()))
    monkeypatch.setattr(initial_weights, "read_network", lambda *_: (more, *rest))
    with pytest.raises(UserError) as caught:
        checked(network)
    line = "  conv4: bias (16,), kernel (5, 5, 8, 16) there, none here"
    assert str(caught.value).splitlines()[1:] == [line]
