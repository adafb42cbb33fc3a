"""The compiled steps of a group of trials, shared by all groups that need the same ones."""

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.data.pipeline import Data
from alexnet_jax.model.network import Network, Params, build, root_key
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.diagnosis import Diagnose, make_diagnose
from alexnet_jax.training.optimizer import Hyperparameters, OptimizerSpec
from alexnet_jax.training.preprocess import (
    InputForm,
    batch_shapes,
)
from alexnet_jax.training.stacking import (
    SeedSlots,
    stack_eval_step,
    stack_train_step,
    stacked_shapes,
)
from alexnet_jax.training.step import (
    EvalStep,
    TrainState,
    TrainStep,
    make_eval_step,
    make_gradient_step,
    make_update,
    state_shapes,
)


@dataclasses.dataclass(frozen=True)
class StepSpec:
    """What the steps of a trial are compiled for, but for the devices.

    Attributes:
      model: section `model`, from which the network is built.
      form: how images become its input.
      optimizer: the form of its update rule.
      num_classes: of the data.
      microbatches: the parts in which a device takes its share of a training batch.
      ensemble: the networks whose probabilities an evaluation averages.
    """

    model: FrozenConfigDict
    form: InputForm
    optimizer: OptimizerSpec
    num_classes: int
    microbatches: int
    ensemble: int

    @staticmethod
    def of(settings: ConfigDict, data: Data) -> "StepSpec":
        """What a trial's settings ask for, on its data."""
        return StepSpec(
            FrozenConfigDict(settings.model),
            InputForm.of(settings.data),
            OptimizerSpec.of(settings.optimizer, settings.model),
            len(data.source.class_names),
            settings.training.gradient_accumulation,
            settings.training.ensemble,
        )

    def with_microbatches(self, microbatches: int) -> "StepSpec":
        """The same in so many microbatches."""
        return dataclasses.replace(self, microbatches=microbatches)

    def with_crops(self, eval_crops: str) -> "StepSpec":
        """The same, evaluated by other crops of the images."""
        form = dataclasses.replace(self.form, eval_crops=eval_crops)
        return dataclasses.replace(self, form=form)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A network with its steps, which are compiled at their first call.

    Attributes:
      network: the network, of a single trial.
      form: how images become its input.
      spec: the form of its update rule.
      train_step, eval_step: of a group of trials (`stacking.py`), on all devices.
      diagnose: measures a single trial's network before its first step.
    """

    network: Network
    form: InputForm
    spec: OptimizerSpec
    train_step: TrainStep
    eval_step: EvalStep
    diagnose: Diagnose

    @staticmethod
    def of(
        spec: StepSpec, devices: Devices, seed_index: tuple[int, ...] = (0,)
    ) -> "Trainer":
        """The trainer of a group of trials; equal ones are made and compiled once.

        Args:
          spec: that of any trial of the group.
          devices: the devices that take the steps, in their mesh.
          seed_index: for each trial of a device its slot in a batch: `SeedSlots.index`.
        """
        return _trainer(spec, devices, seed_index)

    def mean(self, data: Data) -> np.ndarray:
        """What the steps subtract from each image: (height, width, 3) in gray levels."""
        statistics = data.statistics
        return self.form.mean_of(statistics.mean_image, statistics.channel_mean)

    def argument_shapes(
        self,
        devices: Devices,
        slots: SeedSlots,
        *,
        batch_size: int,
        image_size: int,
    ) -> tuple[TrainState, dict[str, jax.ShapeDtypeStruct], Hyperparameters, Any]:
        """The shapes of `train_step`'s arguments, placed: nothing is read or computed.

        Args:
          devices: as for `Trainer.of`.
          slots: where the trials find their images in a batch.
          batch_size: images a step, over all devices.
          image_size: the side of the images before they are cropped, in pixels.
        """
        num_trials, share = slots.num_trials, batch_size // devices.num_hosts
        batch = batch_shapes(self.form.crop_size, (share, len(slots.seeds)))
        mean = jax.ShapeDtypeStruct(self.form.mean_shape(image_size), np.float32)
        of_trials = devices.trials_shapes
        return (
            of_trials(
                stacked_shapes(state_shapes(self.network, self.spec), num_trials)
            ),
            devices.batch_shapes(batch),
            of_trials(stacked_shapes(Hyperparameters.zero(), num_trials)),
            devices.copies_shapes(mean),
        )

    def place_mean(self, data: Data, devices: Devices) -> jax.Array:
        """`mean`, copied to every device."""
        return devices.place_copies(self.mean(data))


@functools.cache
def num_parameters(spec: StepSpec) -> int:
    """The number of parameters of one network."""
    network = _network(spec.model, spec.form.crop_size, spec.num_classes)
    return sum(
        math.prod(leaf.shape)
        for leaf in jax.tree.leaves(state_shapes(network, spec.optimizer).params)
    )


def params_shapes(settings: ConfigDict) -> Params:
    """The shapes of a trial's parameters, by its settings; those of the last for one class."""
    model, size = FrozenConfigDict(settings.model), settings.data.crop_size
    return jax.eval_shape(_network(model, size, 1).initialize, root_key(0))


@functools.cache
def _network(model: FrozenConfigDict, image_size: int, num_classes: int) -> Network:
    return build(model, image_size=image_size, num_classes=num_classes)


@functools.cache
def _trainer(spec: StepSpec, devices: Devices, seed_index: tuple[int, ...]) -> Trainer:
    form, update = spec.form, make_update(spec.optimizer)
    network = _network(spec.model, form.crop_size, spec.num_classes)
    gradient_step = make_gradient_step(
        network, form, spec.microbatches, spec.optimizer.frozen
    )
    train_step = stack_train_step(gradient_step, update, seed_index)
    eval_step = make_eval_step(network, form, spec.ensemble)
    return Trainer(
        network,
        form,
        spec.optimizer,
        devices.spread_train(train_step),
        devices.spread_eval(stack_eval_step(eval_step, len(seed_index))),
        make_diagnose(network.outputs, form),
    )
