"""What the trials of a run share: data, devices, progress, and what the user asks for."""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data.pipeline import Data
from alexnet_jax.progress import Progress
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.signals import Signals
from alexnet_jax.training.trial import RunningTrial, open_trial


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What all trials of a group share besides their settings.

    Attributes:
      data: what the trials are trained on.
      devices: the devices among which batches are shared out.
      progress: where messages and progress go.
      signals: what the user has asked for.
      further_crops: further `data.eval_crops` by which evaluations measure the networks.
    """

    data: Data
    devices: Devices
    progress: Progress
    signals: Signals
    further_crops: tuple[str, ...] = ()

    def open_trial(
        self, settings: ConfigDict, *, seed: int, folder: Path, label: str
    ) -> AbstractContextManager[RunningTrial]:
        """A trial on this data, with its record and checkpoints in `folder`."""
        return open_trial(
            settings,
            seed=seed,
            num_examples=self.data.train.num_examples,
            num_classes=len(self.data.source.class_names),
            devices=self.devices,
            folder=folder,
            label=label,
        )


@dataclasses.dataclass(frozen=True)
class Session:
    """What all groups of a run share, whatever their data."""

    devices: Devices
    progress: Progress
    signals: Signals

    def context(self, data: Data, further_crops: tuple[str, ...] = ()) -> RunContext:
        """The context of a group of trials on `data`."""
        return RunContext(
            data, self.devices, self.progress, self.signals, further_crops
        )


@contextlib.contextmanager
def open_session(
    devices: Devices, *, total_images: int, silent: bool = False, saves: bool = True
) -> Iterator[Session]:
    """Shows the progress of a run, and receives signals, until it is left.

    Args:
      devices: the run's; of several processes only the primary one prints.
      total_images: the images that all trials of the run process together.
      silent: whether nothing is printed.
      saves: whether trials are saved when a signal asks for it; see `Signals`.
    """
    shown = devices.is_primary and not silent
    with (
        Progress(total_images, shown=shown) as progress,
        Signals(saves=saves) as signals,
    ):
        yield Session(devices, progress, signals)
