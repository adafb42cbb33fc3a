"""What the trials of a run share: data, devices, progress, and what the user asks for."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator

from alexnet_jax.data.pipeline import Data
from alexnet_jax.errors import Stopped
from alexnet_jax.progress import Progress
from alexnet_jax.training.cpu_memory import keep_freed_memory
from alexnet_jax.training.devices import Devices
from alexnet_jax.training.signals import NOTHING, SAVE, Signals


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What all trials of a group share besides what they are.

    Attributes:
      data: what the trials are trained on.
      devices: all devices of the run, which each group arranges for itself.
      progress: where messages and progress go.
      signals: what the user has asked for.
      further_crops: further `data.eval_crops` by which evaluations measure the networks.
    """

    data: Data
    devices: Devices
    progress: Progress
    signals: Signals
    further_crops: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Session:
    """What all groups of a run share, whatever their data."""

    devices: Devices
    progress: Progress
    signals: Signals

    def follow_signals(self) -> None:
        """Stops between groups, if any of the processes has been asked to leave.

        A signal that arrives while the last trial of a group ends finds none to save.

        Raises:
          Stopped: then; what has been trained is on the disk.
        """
        requested = self.signals.take()
        leaves = requested not in (NOTHING, SAVE)
        if self.devices.any_process(leaves):
            raise Stopped(requested if leaves else signal.SIGTERM, "between trials")

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

    On CPUs the process keeps the memory that it frees: see `cpu_memory.py`.

    Args:
      devices: the run's; of several processes only the primary one prints.
      total_images: the images that all trials of the run process together.
      silent: whether nothing is printed.
      saves: whether trials are saved when a signal asks for it; see `Signals`.
    """
    if devices.devices[0].platform == "cpu":
        keep_freed_memory()
    shown = devices.is_primary and not silent
    with (
        Progress(total_images, shown=shown) as progress,
        Signals(saves=saves) as signals,
    ):
        yield Session(devices, progress, signals)
