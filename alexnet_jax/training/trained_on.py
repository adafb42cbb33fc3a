"""What a checkpoint says about the data that its network was trained on.

With it a network is of use where that data is not: its outputs have names, and an image
becomes its input as in training.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import FrozenConfigDict

from alexnet_jax.data.pipeline import Data, load_data
from alexnet_jax.data.statistics import Statistics


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """The classes and the statistics of a network's training set.

    Attributes:
      dataset: its name in reports.
      fingerprint: `Source.fingerprint`.
      class_names: the names of the classes, indexed by label.
      num_examples: the number of training images.
      validation: the name of the split on which the network was evaluated.
      num_validation: its number of images.
      statistics: the mean image and the principal components of color.
    """

    dataset: str
    fingerprint: str
    class_names: tuple[str, ...]
    num_examples: int
    validation: str
    num_validation: int
    statistics: Statistics

    @staticmethod
    def of(data: Data) -> "TrainedOn":
        """What there is to say about a run's data."""
        return TrainedOn(
            dataset=data.source.name,
            fingerprint=data.source.fingerprint,
            class_names=tuple(map(str, data.source.class_names)),
            num_examples=data.train.num_examples,
            validation=data.validation.split.name,
            num_validation=data.validation.num_examples,
            statistics=data.statistics,
        )

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as JSON values."""
        held = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        del held["statistics"]
        return held | {"class_names": list(self.class_names)}

    def arrays(self) -> dict[str, np.ndarray]:
        """The statistics as arrays by name."""
        return dict(vars(self.statistics))

    @staticmethod
    def from_parts(
        facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> "TrainedOn":
        """What `facts` and `arrays` have given.

        Raises:
          TypeError: if they lack one, or one is of another type.
        """
        statistics = Statistics(**{name: np.asarray(x) for name, x in arrays.items()})
        names = tuple(facts["class_names"])
        held = {**facts, "class_names": names, "statistics": statistics}
        for name, kind in _TYPES.items():
            values = names if name == "class_names" else (held.get(name, kind()),)
            if not all(type(value) is kind for value in values):
                raise TypeError(f"{name} is no {kind.__name__}")
        return TrainedOn(**held)


# Of the parts that a file holds as JSON; of class_names, that of each.
_TYPES = {
    "dataset": str,
    "fingerprint": str,
    "class_names": str,
    "num_examples": int,
    "validation": str,
    "num_validation": int,
}


def of_imported_network(
    dataset: str, names: tuple[str, ...], mean_image: np.ndarray | None
) -> TrainedOn:
    """What is known of the data of a network that another program has trained.

    Args:
      dataset: its name.
      names: of the classes, in the order of the logits.
      mean_image: (side, side, 3), if it is known; all else of the statistics is not, and
        is NaN.
    """
    unknown = np.full((1, 1, 3), np.nan)
    statistics = Statistics(
        unknown if mean_image is None else mean_image,
        np.full(3, np.nan),
        np.full((3, 3), np.nan),
    )
    return of_no_run(dataset, names, statistics)


def of_no_run(
    dataset: str, names: tuple[str, ...], statistics: Statistics
) -> TrainedOn:
    """What is known of the data of a network that no run has trained.

    Args:
      dataset: its name.
      names: of the classes, in the order of the logits.
      statistics: of the training images.
    """
    return TrainedOn(
        dataset=dataset,
        fingerprint="",
        class_names=names,
        num_examples=0,
        validation="",
        num_validation=0,
        statistics=statistics,
    )


def of_earlier_version(data: FrozenConfigDict, checkpoint: Path) -> TrainedOn:
    """What a checkpoint of an earlier version does not say, from the training data.

    Args:
      data: the section of the settings.
      checkpoint: its folder, to say so.

    Raises:
      UserError: if the data is not there.
    """
    print(
        f"{checkpoint} is of an earlier version, which kept neither the names of the "
        f"classes nor the mean image: they are read from {data.dataset}.",
        file=sys.stderr,
        flush=True,
    )
    # TensorFlow takes seconds to import, and newer checkpoints do without their data.
    from alexnet_jax.data.open import open_source

    source = open_source(data.dataset, tfds_dir=data.tfds_dir)
    return TrainedOn.of(
        load_data(source, rescale=data.rescale, rescale_size=data.rescale_size)
    )
