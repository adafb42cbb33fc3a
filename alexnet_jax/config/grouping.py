"""Which trials are trained side by side: on several devices, or by one program."""

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from alexnet_jax.config.trials import Trial

# The number of trials that a device trains in one program at most, with `config.population`:
# it takes the memory of all of them. On a CPU the program has convolutions of its own for
# each trial, and takes as many times longer to compile.
LARGEST_GROUP = 32
LARGEST_GROUP_ON_CPU = 4

# Pixels of a trial's batch up to which each device trains whole trials: 128 images of 90 x 90.
# A device then needs the memory of a whole step, and the first trial ends later; for
# larger networks the devices share out each batch.
SMALL_BATCH_PIXELS = 2**20


def spreads_trials(settings: ConfigDict) -> bool:
    """Whether devices share out whole trials with these settings, not each trial's batch."""
    if settings.spread != "auto":
        return settings.spread == "trials"
    pixels = settings.training.batch_size * settings.data.crop_size**2
    return pixels <= SMALL_BATCH_PIXELS


def images_together(settings: ConfigDict) -> int:
    """What divides the images that a device has at a time: the two that are mixed, or one."""
    return 2 if settings.data.mixup or settings.data.cutmix else 1


def group_trials(
    trials: Sequence[Trial], *, population: bool, largest: int, num_devices: int
) -> list[list[Trial]]:
    """The trials in groups that are trained side by side, in order.

    The trials of a group differ only in their seeds and in numbers of the section
    optimizer, so that one compiled step can train them. A group has one trial a device
    where these share out trials, and with `population` several; otherwise one.

    Args:
      trials: any trials of an experiment.
      population: `config.population`.
      largest: the number of trials that a device trains in one program at most.
      num_devices: the number of devices among which trials can be shared out.
    """
    together: dict[object, list[Trial]] = {}
    for trial in trials:
        alone = not population and not spreads_trials(trial.settings)
        together.setdefault(trial.name if alone else trial.compiled_for, []).append(
            trial
        )
    groups = []
    for alike in together.values():
        parts = num_devices if spreads_trials(alike[0].settings) else 1
        start = 0
        for size in _sizes(len(alike), parts, largest if population else 1):
            groups.append(alike[start : start + size])
            start += size
    return groups


def _sizes(count: int, num_devices: int, largest: int) -> Iterator[int]:
    """Sizes of the groups of `count` trials that are alike.

    Each can be shared out evenly among as many devices as there are trials, if that number
    divides the devices; the batches of these trials then take the others.
    """
    while count:
        parts = max(
            d for d in range(1, num_devices + 1) if num_devices % d == 0 and d <= count
        )
        size = parts * min(largest, count // parts)
        yield size
        count -= size
