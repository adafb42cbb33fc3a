"""Measures networks on the validation split, each example exactly once (section 4.1)."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax

from alexnet_jax.data.pipeline import Data, evaluation_batches
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.metrics import MEANS, means_row
from alexnet_jax.training.prefetch import PREFETCHED, Prefetcher
from alexnet_jax.training.step import Counts, Params
from alexnet_jax.training.trainer import StepSpec, Trainer

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
          seed_index: as for `Trainer.of`; its length is the number of a device's networks.
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

    def batch_counts(self, params: Params) -> Generator[tuple[Counts, ...], None, None]:
        """The counts of each batch, by the trainer and by those beside it.

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
            if self.beside:
                row["beside"] = {
                    crops: {name: other[name] for name in MEANS}
                    for crops, other in zip(self.beside, others, strict=True)
                }
            rows.append(row)
        return rows


def _of_network(counts: Counts, number: int) -> Counts:
    return Counts(*(of_networks[number] for of_networks in counts))
