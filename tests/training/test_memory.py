"""The shapes for which a step's memory is estimated are those of a real step."""

import jax
import pytest
from small_trial import opened, tiny

from alexnet_jax.data.loading import BatchLoader
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.group import resume, step_memory


def described(tree):
    """Shapes, types and shardings, in the structure of the tree."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), tree)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
@pytest.mark.parametrize("mean", ["image", "center", "channel"])
@pytest.mark.parametrize("seeds", [(3,), (3, 5, 3)])
def test_the_shapes_are_those_of_a_real_step(data, tmp_path, how, mean, seeds):
    devices = Devices(how, jax.devices()[:2])
    config = tiny(data__mean=mean, data__crop_size=12)
    folders = [tmp_path / str(number) for number in range(len(seeds))]
    given = [config] * len(seeds), data, devices, folders
    with opened(*given, seeds=seeds) as (trials, context):
        memory = step_memory(trials, context)
        (group,) = resume(trials, context)
        group.place()
        with group.batches() as batches:
            batch = batches.next()
    state, of_batch, hyperparameters, of_mean = group.trainer.argument_shapes(
        memory.devices,
        memory.slots,
        batch_size=memory.batch_size,
        image_size=memory.image_size,
    )
    assert described(state) == described(group.state)
    assert described(of_batch) == described(batch)
    assert described(of_mean) == described(group.mean)
    real = devices.copies_shapes(group.hyperparameters())
    assert described(hyperparameters) == described(real)


def test_an_estimate_reads_no_data(data, devices, tmp_path, monkeypatch):
    """It is made after a step has failed, when whatever else is short may fail too."""
    with opened([tiny()], data, devices, [tmp_path], seeds=[0]) as (trials, context):
        memory = step_memory(trials, context)

    def refused(*_):
        raise AssertionError("images are read")

    for method in ("batches", "single"):
        monkeypatch.setattr(BatchLoader, method, refused)
    monkeypatch.setattr(RescaledSplit, "crop_rows", refused)
    assert memory.step_bytes(1) > 0
