"""What came after the paper, all at once: resumed, on other devices, in a population."""

import jax
import numpy as np
import pytest
from small_trial import STEP, learned, opened, rows_of, tiny, train_one

from alexnet_jax.errors import Stopped
from alexnet_jax.training import loop
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.saved_network import read_network
from alexnet_jax.training.step import split

ALL = {
    "model__activation": "gelu",
    "model__normalization": "batch",
    "model__initialization": "he",
    "optimizer__name": "adamw",
    "optimizer__schedule": "cosine",
    "optimizer__warmup_epochs": 2.9 * STEP,
    "optimizer__clip_norm": 0.5,
    "training__label_smoothing": 0.1,
}


def parameters(folder):
    params, _, _ = read_network(str(folder))
    return params


def trained(config, data, devices, folder):
    trial, _ = train_one(config, data, devices, folder)
    assert trial.status == "finished"
    return parameters(folder), learned(rows_of(folder))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """On one device."""
    folder = tmp_path_factory.mktemp("whole")
    return trained(tiny(**ALL), data, Devices(jax.devices()[:1]), folder)


def close(one, other):
    """To rounding, which ten steps amplify."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), one, other
    )


def test_it_learns_and_keeps_statistics(whole):
    params, rows = whole
    _, statistics = split(params)
    assert set(statistics) == {"conv1_norm", "conv2_norm", "conv3_norm"}
    assert all((of["var"] > 0).all() and of["mean"].any() for of in statistics.values())
    losses = [row["loss"] for row in rows if row["kind"] == "eval"]
    assert losses[-1] < losses[0]


def test_stopped_it_resumes_bit_identically(whole, data, tmp_path, monkeypatch):
    devices = Devices(jax.devices()[:1])
    given = loop.take_step

    def stopping(group, *rest):
        given(group, *rest)
        if group.step == 6:
            group.context.signals._received = 15

    monkeypatch.setattr(loop, "take_step", stopping)
    with (
        pytest.raises(Stopped),
        opened([tiny(**ALL)], data, devices, [tmp_path], seeds=[0]) as (trials, context),
    ):
        loop.train(trials, context)
    monkeypatch.undo()
    params, rows = trained(tiny(**ALL), data, devices, tmp_path)
    assert rows == whole[1]
    jax.tree.map(np.testing.assert_array_equal, params, whole[0])
