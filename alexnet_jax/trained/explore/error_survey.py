"""One pass over the test images: errors by class, and the most confident mistakes."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int64

from alexnet_jax.trained.explore.explored import (
    ClassErrors,
    MeasuredErrors,
    Mistake,
    ShownMistake,
)
from alexnet_jax.trained.explore.picked_examples import (
    OpenedData,
    PickedExamples,
    center_crop,
)
from alexnet_jax.trained.measuring import Errors, class_rows, measure, paper_row
from alexnet_jax.trained.trained_network import TrainedNetwork

MOST_MISTAKES = 12
CONFUSION_CLASSES = 20  # a confusion matrix is shown up to here


class MistakeCollector:
    """Keeps the classes of all images, and the most confident wrong guesses.

    Args:
      class_names: of the network.
      most: how many mistakes are kept.
    """

    def __init__(self, class_names: tuple[str, ...], most: int) -> None:
        self.class_names, self.most = class_names, most
        self._own: list[Int64[np.ndarray, " n"]] = []
        self._kept: list[tuple[float, int, int, int, float]] = []
        self._seen = 0

    def add(
        self,
        probabilities: Float32[np.ndarray, "n classes"],
        own: Int64[np.ndarray, " n"],
    ) -> None:
        """Adds a batch, with the classes of its images; batches come in order."""
        best = probabilities.argmax(axis=1)
        for row in np.flatnonzero(best != own).tolist():
            guess, true = int(best[row]), int(own[row])
            sure, of_true = (float(probabilities[row, k]) for k in (guess, true))
            self._kept.append((-sure, self._seen + row, guess, true, of_true))
        self._kept = sorted(self._kept)[: self.most]  # of equals the first
        self._own.append(own)
        self._seen += len(own)

    @property
    def classes(self) -> Int64[np.ndarray, " n"]:
        """The network's class of each image so far."""
        return np.concatenate(self._own)

    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes so far, the most confident first."""
        return [
            Mistake(
                example,
                self.class_names[true],
                self.class_names[guess],
                -minus,
                of_true,
            )
            for minus, example, guess, true, of_true in self._kept
        ]


def survey(
    network: TrainedNetwork,
    data: OpenedData,
    *,
    advance: Callable[[int], None] = lambda images: None,
) -> tuple[MeasuredErrors, Int64[np.ndarray, " n"]]:
    """Measures the errors of center crops, and collects the most confident mistakes.

    Returns the errors, and the network's class of each image.

    Args:
      data: its validation split is measured.
      advance: receives the number of images of each batch that is done.

    Raises:
      UserError: if a class is unknown, or an image cannot be read.
    """
    collector = MistakeCollector(network.class_names, MOST_MISTAKES)
    errors = measure([network], data.source, advance=advance, observe=collector.add)
    shown = _with_images(collector.mistakes(), data.validation, network.form.crop_size)
    return _plain(errors, shown), collector.classes


def _with_images(
    mistakes: list[Mistake], examples: PickedExamples, size: int
) -> list[ShownMistake]:
    images = examples.pixels([mistake.example for mistake in mistakes])
    return [
        ShownMistake(mistake, examples.place(mistake.example), center_crop(image, size))
        for mistake, image in zip(mistakes, images, strict=True)
    ]


def _plain(errors: Errors, mistakes: list[ShownMistake]) -> MeasuredErrors:
    """The errors as plain values."""
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
        mistakes=mistakes,
        notes=errors.notes,
        paper=_paper_words(errors),
    )


def _paper_words(errors: Errors) -> str:
    """The paper's row that was measured under the same protocol; "" if there is none."""
    row = paper_row(errors)
    if row is None:
        return ""
    return f"The paper, {row.name}: top-1 {row.top1:.1%}, top-5 {row.top5:.1%}"
