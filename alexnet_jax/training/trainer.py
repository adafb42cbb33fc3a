"""The compiled steps of a group of trials, shared by all groups that need the same ones."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.model.network import Network, Params, build, root_key, split
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.diagnosis import Diagnose, make_diagnose
from alexnet_jax.training.metrics import MEANS, means_row
from alexnet_jax.training.objective import Objective
from alexnet_jax.training.optimizer import Hyperparameters, OptimizerSpec
from alexnet_jax.training.prefetch import PREFETCHED, Prefetcher
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
    Counts,
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
      objective: what it minimizes.
      optimizer: the form of its update rule.
      num_classes: of the data.
      microbatches: the parts in which a device takes its share of a training batch.
      ensemble: the networks whose probabilities an evaluation averages.
    """

    model: FrozenConfigDict
    form: InputForm
    objective: Objective
    optimizer: OptimizerSpec
    num_classes: int
    microbatches: int
    ensemble: int

    @staticmethod
    def of(settings: ConfigDict, data: Data) -> "StepSpec":
        """The specification of the steps of a trial with these settings, on its data."""
        return StepSpec(
            FrozenConfigDict(settings.model),
            InputForm.of(settings.data),
            Objective.of(settings),
            OptimizerSpec.of(settings.optimizer, settings.model),
            len(data.source.class_names),
            settings.training.gradient_accumulation,
            settings.training.ensemble,
        )

    def with_microbatches(self, microbatches: int) -> "StepSpec":
        """Returns this specification with another number of microbatches."""
        return dataclasses.replace(self, microbatches=microbatches)

    def with_crops(self, eval_crops: str) -> "StepSpec":
        """Returns this specification with other `data.eval_crops`, "center" or "ten"."""
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
          devices: the devices that take the steps, in their mesh.
          slots: where the trials find their images in a batch.
          batch_size: images a step, over all devices.
          image_size: the side of the images before they are cropped, in pixels.
        """
        num_trials, share = slots.num_trials, batch_size // devices.num_hosts
        batch = batch_shapes(self.form, image_size, (share, len(slots.seeds)))
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
        """What the steps subtract from each image, copied to every device."""
        return devices.place_copies(self.mean(data))


@functools.cache
def num_parameters(spec: StepSpec) -> int:
    """The number of parameters of one network."""
    network = _network(spec.model, spec.form.crop_size, spec.num_classes)
    return sum(
        math.prod(leaf.shape)
        for leaf in jax.tree.leaves(
            split(state_shapes(network, spec.optimizer).params)[0]
        )
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
        network, form, spec.microbatches, spec.optimizer.frozen, spec.objective
    )
    train_step = stack_train_step(gradient_step, update, seed_index)
    eval_step = make_eval_step(network, form, spec.ensemble)
    return Trainer(
        network,
        form,
        spec.optimizer,
        devices.spread_train(train_step),
        devices.spread_eval(stack_eval_step(eval_step, len(seed_index))),
        make_diagnose(network.outputs_of_batch, form),
    )


# Images in a batch of an evaluation, about; no result depends on it.
EVALUATION_BATCH = 128


def evaluation_batch_size(microbatches: int, num_trials: int) -> int:
    """Images in a batch of an evaluation of `num_trials` networks at once.

    Where a step fits in microbatches only, an evaluation may not fit as a whole either,
    and several networks have several times the activations.
    """
    return max(1, EVALUATION_BATCH // microbatches // num_trials)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Measures the errors of a group of networks on the validation split.

    Attributes:
      trainer: the networks' steps.
      data: its validation split is used.
      mean: what the steps subtract from each image, on every device.
      devices: the devices among which a batch is shared out.
      batch_size: images in a batch, a multiple of the devices.
      beside: further trainers, by the crops by which they evaluate the same networks.
    """

    trainer: Trainer
    data: Data
    mean: jax.Array
    devices: Devices
    batch_size: int
    beside: Mapping[str, Trainer] = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(
        spec: StepSpec,
        data: Data,
        devices: Devices,
        seed_index: tuple[int, ...] = (0,),
        further_crops: Sequence[str] = (),
    ) -> "Evaluator":
        """The evaluator of a group of networks.

        Args:
          spec: that of any of the group's trials.
          data: the networks are measured on its validation split.
          devices: the devices among which a batch is shared out, in their mesh.
          seed_index: for each network of a device its slot in a training batch, by which
            steps that are compiled already are found.
          further_crops: further `data.eval_crops` by which to measure the networks.
        """
        trainer = Trainer.of(spec, devices, seed_index)
        return Evaluator(
            trainer,
            data,
            trainer.place_mean(data, devices),
            devices,
            max(
                # XLA on CPU cannot compile ten crops of a single image on a device.
                2 * devices.batch_parts,
                devices.rounded_up(
                    evaluation_batch_size(spec.microbatches, len(seed_index))
                ),
            ),
            {
                crops: Trainer.of(spec.with_crops(crops), devices, seed_index)
                for crops in further_crops
            },
        )

    @property
    def num_batches(self) -> int:
        """Batches of one evaluation."""
        return math.ceil(self.data.validation.num_examples / self.batch_size)

    def evaluate(
        self, params: Params, *, step: int, epoch: float
    ) -> list[dict[str, Any]]:
        """The eval row of each network, after `step` steps or `epoch` epochs of training.

        The leading axis of `params` is that of the networks.
        """
        start = time.perf_counter()
        with contextlib.closing(self.batch_counts(params)) as counts:
            of_all = list(counts)
        seconds = time.perf_counter() - start
        return self.rows(of_all, step=step, epoch=epoch, seconds=seconds)

    def batch_counts(
        self, params: Params, raw: Params | None = None
    ) -> Generator[tuple[Counts, ...], None, None]:
        """The counts of each batch, by the trainer and by those beside it.

        If `params` are averages of `raw`, the last are those of `raw`.

        They may still be being computed, but not more than `PREFETCHED` batches are in
        flight. To be closed when it is left early.
        """
        trainers = (self.trainer, *self.beside.values())
        in_flight: list[tuple[Counts, ...]] = []
        with self.prefetcher() as batches:
            while (batch := batches.next()) is not None:
                counts = tuple(
                    each.eval_step(params, batch, self.mean) for each in trainers
                )
                if raw is not None:
                    counts += (self.trainer.eval_step(raw, batch, self.mean),)
                in_flight.append(counts)
                if len(in_flight) > PREFETCHED:
                    jax.block_until_ready(in_flight.pop(0))
                yield counts
            jax.block_until_ready(in_flight)

    def prefetcher(self) -> Prefetcher:
        """This process's share of the validation split, on the devices."""
        batches = evaluation_batches(
            self.data.validation,
            batch_size=self.batch_size,
            host=self.devices.host,
            num_hosts=self.devices.num_hosts,
        )
        return Prefetcher(batches, self.devices.place_batch)

    def rows(
        self,
        counts: Sequence[tuple[Counts, ...]],
        *,
        step: int,
        epoch: float,
        seconds: float,
    ) -> list[dict[str, Any]]:
        """The eval row of each network, from the counts of all batches.

        Raises:
          AssertionError: if not every example was counted exactly once.
        """
        totals = [
            Counts(*(sum(column) for column in zip(*of_batches, strict=True)))
            for of_batches in zip(*jax.device_get(counts), strict=True)
        ]
        split = self.data.validation
        assert all((total.examples == split.num_examples).all() for total in totals)
        throughput = split.num_examples / seconds
        rows = []
        for number in range(len(totals[0].examples)):
            row, *others = (
                means_row("eval", step, epoch, _of_network(total, number), throughput)
                for total in totals
            )
            row["split"] = split.split.name
            if others:
                names = (*self.beside, "raw")[: len(others)]
                row["beside"] = {
                    beside: {name: other[name] for name in MEANS}
                    for beside, other in zip(names, others, strict=True)
                }
            rows.append(row)
        return rows


def _of_network(counts: Counts, number: int) -> Counts:
    return Counts(*(of_networks[number] for of_networks in counts))
