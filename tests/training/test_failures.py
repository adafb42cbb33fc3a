"""Device failures are reported in clear messages."""

import dataclasses
import types
from collections.abc import Callable

import jax
import pytest
from small_trial import tiny, trainer_of
from test_checkpoint import run

from alexnet_jax.errors import UserError
from alexnet_jax.training import failures
from alexnet_jax.training.failures import explain
from alexnet_jax.training.memory import StepMemory
from alexnet_jax.training.stacking import SeedSlots
from alexnet_jax.training.trainer import Trainer

FULL = jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123456 bytes."
)


@dataclasses.dataclass(frozen=True)
class Needed(StepMemory):
    """A step memory with given memory needs."""

    needed: Callable[[int], int]

    def step_bytes(self, microbatches):
        return self.needed(microbatches)


def said(
    devices,
    *,
    needed=lambda microbatches: 10**9 // microbatches,
    microbatches=1,
    num_trials=1,
    error=FULL,
    normalization="local_response",
):
    model = types.SimpleNamespace(normalization=normalization)
    spec = types.SimpleNamespace(microbatches=microbatches, model=model)
    slots = SeedSlots((0,), (0,) * num_trials)
    memory = Needed(spec, devices, slots, 128, 256, needed)
    return explain(error, memory)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(failures, "device_bytes", lambda _: 3 * 10**8)


def test_the_fewest_microbatches_that_fit_are_proposed(devices, small_memory):
    error = said(devices)
    assert isinstance(error, UserError)
    assert "a step of 128 images, 16 per device in 1 microbatch, needs 1.00 GB" in str(
        error
    )
    assert "of the 0.30 GB it has" in str(error)
    assert "--config.training.gradient_accumulation=4 needs 0.25 GB" in str(error)
    assert "gives the same updates to rounding" in str(error)
    assert "each of these parts by itself" in str(said(devices, normalization="batch"))


def test_proposed_microbatches_divide_the_share_and_are_smaller(devices, small_memory):
    tried = []

    def needed(parts):
        tried.append(parts)
        return 10**9

    text = str(said(devices, needed=needed, microbatches=2))
    assert tried == [2, 4, 8, 16]
    assert "No config.training.gradient_accumulation helps" in text


def test_with_unknown_device_memory_the_next_accumulation_is_proposed(data, devices):
    text = str(said(devices))
    assert "--config.training.gradient_accumulation=2 needs 0.50 GB" in text


def test_a_population_is_advised_to_train_its_trials_separately(devices):
    assert "3 trials at once: without --config.population" in str(
        said(devices, num_trials=3)
    )


def test_other_errors_of_one_process_are_unchanged(devices):
    other = jax.errors.JaxRuntimeError("INTERNAL: something else")
    assert said(devices, error=other) is other


def test_with_several_processes_a_communication_error_means_a_lost_one(
    data, devices, monkeypatch
):
    monkeypatch.setattr(devices, "num_hosts", 2, raising=False)
    other = jax.errors.JaxRuntimeError("UNKNOWN: Gloo: Connection closed by peer\nmore")
    text = str(said(devices, error=other))
    assert "Process 0 of 2 has lost another process: UNKNOWN: Gloo" in text
    assert "same command" in text


def test_with_several_processes_a_local_error_is_unchanged(data, devices, monkeypatch):
    monkeypatch.setattr(devices, "num_hosts", 2, raising=False)
    other = jax.errors.JaxRuntimeError("INTERNAL: a kernel that cannot be compiled")
    assert said(devices, error=other) is other


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train_step", "eval_step"])
def test_an_out_of_memory_message_gives_the_compilers_figures(
    data, devices, tmp_path, monkeypatch, part
):
    """The figures are those of compiled programs: microbatches need less.

    The first evaluation comes before the first step and before its batch.
    """
    config = tiny(training__batch_size=32)
    trainer = trainer_of(config, data, devices)

    class Full:
        lower = staticmethod(getattr(trainer, part).lower)

        def __call__(self, *_):
            raise FULL

    changed = dataclasses.replace(trainer, **{part: Full()})
    of = Trainer.of
    monkeypatch.setattr(
        Trainer,
        "of",
        lambda spec, *others: changed if spec.microbatches == 1 else of(spec, *others),
    )
    with pytest.raises(UserError) as refused:
        run(config, data, devices, tmp_path)
    words = str(refused.value).split()
    sizes = [float(word) for word in words if word.replace(".", "", 1).isdigit()]
    assert "accumulation=2" in str(refused.value)
    assert 0 < sizes[-1] < 1000
