"""What goes wrong on the devices, in words."""

import dataclasses

import jax
import pytest
from small_trial import tiny
from test_checkpoint import run

from alexnet_jax.errors import UserError
from alexnet_jax.training import failures, loop
from alexnet_jax.training.failures import explained

FULL = jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456 bytes."
)


def said(devices, *, needed=lambda parts: 10**9 // parts, accumulation=1, error=FULL):
    return explained(
        error,
        devices=devices,
        batch_size=128,
        accumulation=accumulation,
        needed=needed,
    )


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(failures, "device_bytes", lambda _: 3 * 10**8)


def test_the_fewest_parts_that_fit_are_proposed(devices, small_memory):
    error = said(devices)
    assert isinstance(error, UserError)
    assert "a step of 128 images, 16 a device in 1 part, needs 1.00 GB" in str(error)
    assert "of the 0.30 GB it has" in str(error)
    assert "--config.training.accumulation=4 needs 0.25 GB" in str(error)


def test_parts_divide_the_share_and_are_finer_than_now(devices, small_memory):
    tried = []

    def needed(parts):
        tried.append(parts)
        return 10**9

    text = str(said(devices, needed=needed, accumulation=2))
    assert tried == [2, 4, 8, 16]
    assert "No config.training.accumulation helps" in text


def test_where_the_device_does_not_tell_its_memory_the_next_parts_are_proposed(devices):
    text = str(said(devices))
    assert "--config.training.accumulation=2 needs 0.50 GB" in text


def test_other_errors_of_one_process_stay_as_they_are(devices):
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    assert said(devices, error=other) is other


def test_in_several_processes_another_error_is_that_one_is_lost(devices, monkeypatch):
    monkeypatch.setattr(devices, "num_hosts", 2, raising=False)
    other = jax.errors.JaxRuntimeError("UNKNOWN: Gloo: Connection closed by peer\nmore")
    text = str(said(devices, error=other))
    assert "Process 0 of 2 has lost another one: UNKNOWN: Gloo" in text
    assert "same command" in text


def test_in_several_processes_an_error_of_its_own_stays_as_it_is(devices, monkeypatch):
    monkeypatch.setattr(devices, "num_hosts", 2, raising=False)
    other = jax.errors.JaxRuntimeError("INTERNAL: a kernel that cannot be compiled")
    assert said(devices, error=other) is other


@pytest.mark.parametrize("part", ["train_step", "eval_step"])
def test_a_step_without_memory_is_refused_with_what_the_compiler_says(
    data, devices, tmp_path, monkeypatch, part
):
    """The figures are of programs that were compiled: parts need less.

    An evaluation stands before the first step, and before its batch.
    """
    config = tiny(training__batch_size=32)
    trainer = loop.Trainer.of(config, data, devices)

    class Full:
        lower = staticmethod(getattr(trainer, part).lower)

        def __call__(self, *_):
            raise FULL

    changed = dataclasses.replace(trainer, **{part: Full()})
    of = loop.Trainer.of
    monkeypatch.setattr(
        loop.Trainer,
        "of",
        lambda config, *others: (
            changed if config.training.accumulation == 1 else of(config, *others)
        ),
    )
    with pytest.raises(UserError) as refused:
        run(config, data, devices, tmp_path)
    words = str(refused.value).split()
    sizes = [float(word) for word in words if word.replace(".", "", 1).isdigit()]
    assert "accumulation=2" in str(refused.value)
    assert 0 < sizes[-1] < 1000
