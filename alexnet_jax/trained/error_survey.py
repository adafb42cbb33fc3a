"""One pass over the test images: errors by class, and the most confident mistakes."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64

from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import Source
from alexnet_jax.trained.explored import (
    ClassErrors,
    MeasuredErrors,
    Mistake,
    ShownMistake,
)
from alexnet_jax.trained.measuring import Errors, class_rows, measure
from alexnet_jax.trained.picked_examples import center_crop, pixels_at, place_name
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_MISTAKES = 12
CONFUSION_CLASSES = 20  # a confusion matrix is shown up to here


class MistakeCollector:
    """Keeps the labels of all images, and the wrong guesses with the largest probability.

    Args:
      index: the network's class of each label.
      class_names: of the network.
      most: how many mistakes are kept.
    """

    def __init__(
        self,
        index: Int64[np.ndarray, " labels"],
        class_names: tuple[str, ...],
        most: int,
    ) -> None:
        self.index, self.class_names, self.most = index, class_names, most
        self._own: list[Int64[np.ndarray, " n"]] = []
        self._kept: list[tuple[float, int, int, int, float]] = []
        self._seen = 0

    def add(
        self,
        probabilities: Float32[np.ndarray, "n classes"],
        labels: Int64[np.ndarray, " n"],
    ) -> None:
        """Adds a batch; batches come in the order of the split."""
        own, best = self.index[labels], probabilities.argmax(axis=1)
        for row in np.flatnonzero(best != own).tolist():
            said, true = int(best[row]), int(own[row])
            sure, of_true = (float(probabilities[row, k]) for k in (said, true))
            self._kept.append((-sure, self._seen + row, said, true, of_true))
        self._kept = sorted(self._kept)[: self.most]  # of equals the first
        self._own.append(own)
        self._seen += len(labels)

    @property
    def classes(self) -> Int64[np.ndarray, " n"]:
        """The network's class of each image so far."""
        return np.concatenate(self._own)

    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes so far, the most confident first."""
        return [
            Mistake(
                example, self.class_names[true], self.class_names[said], -minus, of_true
            )
            for minus, example, said, true, of_true in self._kept
        ]


def survey(
    network: TrainedNetwork,
    source: Source,
    index: Int64[np.ndarray, " labels"],
    *,
    advance: Callable[[int], None] = lambda images: None,
) -> tuple[Errors, MistakeCollector]:
    """Measures the errors for center crops as `evaluate` does, and collects the mistakes.

    Args:
      index: the network's class of each of the dataset's labels.

    Raises:
      UserError: as `measure`.
    """
    collector = MistakeCollector(index, network.class_names, MOST_MISTAKES)
    errors = measure([network], source, advance=advance, observe=collector.add)
    return errors, collector


def shown_errors(
    network: TrainedNetwork,
    split: RescaledSplit,
    errors: Errors,
    mistakes: list[Mistake],
    *,
    paper: str,
) -> MeasuredErrors:
    """The errors as plain values, with the images of the mistakes.

    Args:
      paper: the paper's row under the same protocol, in words.
    """
    images = pixels_at(split, [mistake.example for mistake in mistakes])
    few = len(errors.class_names) <= CONFUSION_CLASSES
    return MeasuredErrors(
        dataset=errors.dataset,
        split=errors.split,
        examples=errors.num_examples,
        top1_wrong=errors.top1_errors,
        top5_wrong=errors.top5_errors,
        loss=errors.loss or 0.0,
        by_class=[
            ClassErrors(
                row["class"],
                row["examples"],
                row["top1_errors"],
                row["most_often_taken_for"],
            )
            for row in class_rows(errors)
        ],
        class_names=errors.class_names,
        confusion=errors.confusion if few else np.zeros((0, 0), np.int64),
        mistakes=[
            ShownMistake(
                mistake,
                place_name(split.split.where(mistake.example)),
                center_crop(image, network.form.crop_size),
            )
            for mistake, image in zip(mistakes, images, strict=True)
        ],
        notes=errors.notes,
        paper=paper,
    )
