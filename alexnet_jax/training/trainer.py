"""The compiled steps of a group of trials, shared by all groups that need the same ones."""

import dataclasses
import functools

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.data.pipeline import Data
from alexnet_jax.model.network import Network, build
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.diagnosis import Diagnose, make_diagnose
from alexnet_jax.training.optimizer import OptimizerSpec
from alexnet_jax.training.preprocess import InputForm, crop_input, crop_places
from alexnet_jax.training.stacking import stack_eval_step, stack_train_step
from alexnet_jax.training.step import (
    EvalStep,
    TrainStep,
    make_eval_step,
    make_gradient_step,
    make_update,
)


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
        settings: ConfigDict,
        data: Data,
        devices: Devices,
        seed_index: tuple[int, ...] = (0,),
        *,
        microbatches: int | None = None,
        eval_crops: str | None = None,
    ) -> "Trainer":
        """The trainer of a group of trials; equal ones are made and compiled once.

        Args:
          settings: those of any trial of the group.
          seed_index: for each trial the place of its seed in a batch: `seed_index_of`.
          microbatches: replaces `settings.training.gradient_accumulation`.
          eval_crops: replaces `settings.data.eval_crops`.
        """
        form = InputForm.of(settings.data)
        if eval_crops is not None:
            form = dataclasses.replace(form, eval_crops=eval_crops)
        if microbatches is None:
            microbatches = settings.training.gradient_accumulation
        return _trainer(
            FrozenConfigDict(settings.model),
            form,
            OptimizerSpec.of(settings.optimizer),
            len(data.source.class_names),
            microbatches,
            settings.training.ensemble,
            devices,
            seed_index,
        )

    def mean(self, data: Data) -> np.ndarray:
        """What the steps subtract from each image: (height, width, 3) in gray levels."""
        statistics = data.statistics
        return self.form.mean_of(statistics.mean_image, statistics.channel_mean)

    def place_mean(self, data: Data, devices: Devices) -> jax.Array:
        """`mean`, copied to every device."""
        return devices.place_state(self.mean(data))

    def center_crops(self, images: jax.Array, mean: jax.Array) -> jax.Array:
        """The network's input for the center crops of whole images, (n, side, side, 3).

        These are taken whatever crops the network is evaluated by.
        """
        form = dataclasses.replace(self.form, eval_crops="center")
        (place,) = crop_places(images.shape[1], form)
        return crop_input(images, place, mean, form)


@functools.cache
def _network(model: FrozenConfigDict, image_size: int, num_classes: int) -> Network:
    return build(model, image_size=image_size, num_classes=num_classes)


@functools.cache
def _trainer(
    model: FrozenConfigDict,
    form: InputForm,
    spec: OptimizerSpec,
    num_classes: int,
    microbatches: int,
    ensemble: int,
    devices: Devices,
    seed_index: tuple[int, ...],
) -> Trainer:
    network = _network(model, form.crop_size, num_classes)
    gradient_step = make_gradient_step(network, form, microbatches)
    train_step = stack_train_step(gradient_step, make_update(spec), seed_index)
    eval_step = make_eval_step(network, form, ensemble)
    return Trainer(
        network,
        form,
        spec,
        devices.spread_train(train_step),
        devices.spread_eval(stack_eval_step(eval_step, len(seed_index))),
        make_diagnose(network.outputs, form),
    )
