"""Measures trained networks on a dataset: each example once, one network or an average."""

import contextlib
import dataclasses
from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64
from ml_collections import FrozenConfigDict

from alexnet_jax.data.pipeline import evaluation_batches
from alexnet_jax.data.rescaled import RescaledSplit
from alexnet_jax.data.types import ALL_IMAGES, Source
from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import Matched, match

BATCH = 128  # images

# For each example the classes of the network that count as right; none: the example does
# not count.
LabelSets = Sequence[Sequence[int]]

# The probabilities of a batch, and its labels.
LabeledProbabilities = tuple[Float32[np.ndarray, "n classes"], Int64[np.ndarray, " n"]]


@runtime_checkable
class Classifier(Protocol):
    """What is measured: a `TrainedNetwork`."""

    @property
    def origin(self) -> str: ...

    @property
    def settings(self) -> FrozenConfigDict: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def probability_batches(
        self, batches: Iterable[Any], *, crops: int
    ) -> Iterator[Float32[np.ndarray, "n classes"]]: ...


@dataclasses.dataclass(frozen=True)
class Errors:
    """The errors of one network, or of an average of several, on a dataset.

    Attributes:
      dataset, split: what was measured on.
      networks: the origins of the networks.
      crops: 1 or 10 an image.
      class_names: of the networks.
      examples: examples of each class.
      top1_wrong, top5_wrong: those of which the class is not the most probable one, or not
        among the five most probable.
      confusion: examples by class and most probable class, (classes, classes).
      loss: the mean negative logarithm of the probability of the class, in nats; None for
        reassessed labels, of which an example may have several.
      notes: what a reader should know of the classes.
      unlabeled: examples without any reassessed label, which do not count.
    """

    dataset: str
    split: str
    networks: tuple[str, ...]
    crops: int
    class_names: tuple[str, ...]
    examples: Int64[np.ndarray, " classes"]
    top1_wrong: Int64[np.ndarray, " classes"]
    top5_wrong: Int64[np.ndarray, " classes"]
    confusion: Int64[np.ndarray, "classes classes"]
    loss: float | None
    notes: tuple[str, ...] = ()
    unlabeled: int = 0

    @property
    def measured(self) -> str:
        """Which images of the dataset were measured, in words."""
        return self.split if self.split == ALL_IMAGES else f"{self.split} split"

    @property
    def num_examples(self) -> int:
        """The examples that count."""
        return int(self.examples.sum())

    @property
    def top1_errors(self) -> int:
        return int(self.top1_wrong.sum())

    @property
    def top5_errors(self) -> int:
        return int(self.top5_wrong.sum())

    @property
    def top1_error(self) -> float:
        return self.top1_errors / self.num_examples

    @property
    def top5_error(self) -> float:
        return self.top5_errors / self.num_examples


def measure(
    networks: Sequence[Classifier],
    source: Source,
    *,
    crops: int = 1,
    reassessed: LabelSets | None = None,
    advance: Callable[[int], None] = lambda images: None,
    observe: Callable[[np.ndarray, np.ndarray], None] = lambda probabilities, labels: (
        None
    ),
) -> Errors:
    """Measures the average of `networks` on the validation or test split of a dataset.

    Probabilities are averaged, over the crops of an image and over the networks. The
    images are decoded and rescaled as in training.

    Args:
      networks: at least one; all with the same classes, in any order.
      source: the dataset. Its classes are matched by name.
      crops: 1 for the center crop; 10 as in section 4.1.
      reassessed: the classes of each example that count as right, as indices of the first
        network's classes; in place of the dataset's labels.
      advance: receives the number of images of each batch that is done.
      observe: given the probabilities of each batch and the network's classes of its
        images, in the order of the split.

    Raises:
      UserError: if a class is unknown, the networks differ in their classes, or an image
        cannot be read.
    """
    first, split = networks[0], source.validation
    matched = match(source.class_names, first.class_names, dataset=source.name)
    orders = [_order(network, first) for network in networks]
    tally = Tally(matched, len(first.class_names), reassessed)
    with contextlib.closing(
        _averaged_batches(networks, orders, source, crops)
    ) as batches:
        for probabilities, labels in batches:
            tally.add(probabilities, labels)
            observe(probabilities, matched.index[labels])
            advance(len(labels))
    assert tally.seen == split.num_examples
    return Errors(
        dataset=source.name,
        split=split.name,
        networks=tuple(network.origin for network in networks),
        crops=crops,
        class_names=first.class_names,
        examples=tally.examples,
        top1_wrong=tally.top1_wrong,
        top5_wrong=tally.top5_wrong,
        confusion=tally.confusion,
        loss=tally.loss / tally.seen if reassessed is None else None,
        notes=matched.notes,
        unlabeled=tally.seen - int(tally.examples.sum()),
    )


class Tally:
    """Counts the errors of batches that come in the order of the split.

    Args:
      matched: the network's class of each label.
      count: the network's classes.
      reassessed: the classes of each example that count as right, in place of its label;
        None: the labels.

    Attributes:
      seen: examples added.
      loss: the sum of their negative log-probabilities.
      examples: examples of each class.
      top1_wrong, top5_wrong: those whose class is not the first, or among the first five.
      confusion: examples by class and most probable class.
    """

    def __init__(
        self, matched: Matched, count: int, reassessed: LabelSets | None
    ) -> None:
        self.matched, self.reassessed = matched, reassessed
        self.seen, self.loss = 0, 0.0
        self.examples, self.top1_wrong, self.top5_wrong = (
            np.zeros(count, np.int64) for _ in range(3)
        )
        self.confusion = np.zeros((count, count), np.int64)

    def add(
        self,
        probabilities: Float32[np.ndarray, "n classes"],
        labels: Int64[np.ndarray, " n"],
    ) -> None:
        """Adds a batch; of equal probabilities, that of the lower class is the larger."""
        own = self.matched.index[labels]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        if self.reassessed is None:
            right, counted = best == own[:, None], np.ones(len(own), bool)
            chosen = probabilities[np.arange(len(own)), own]
            self.loss -= float(np.log(np.maximum(chosen, 1e-38)).sum())
        else:
            sets = self.reassessed[self.seen : self.seen + len(own)]
            right = np.array(
                [np.isin(row, list(some)) for row, some in zip(best, sets, strict=True)]
            )
            counted = np.array([len(each) > 0 for each in sets])
        np.add.at(self.examples, own[counted], 1)
        np.add.at(self.top1_wrong, own[counted & ~right[:, 0]], 1)
        np.add.at(self.top5_wrong, own[counted & ~right.any(axis=1)], 1)
        np.add.at(self.confusion, (own[counted], best[counted, 0]), 1)
        self.seen += len(own)


def _order(network: Classifier, first: Classifier) -> Int64[np.ndarray, " n"]:
    """For each class of `first`, its place among the classes of `network`.

    Raises:
      UserError: if their classes differ.
    """
    if len(network.class_names) != len(first.class_names):
        raise UserError(
            f"{network.origin} has {len(network.class_names)} classes and {first.origin} "
            f"has {len(first.class_names)}: only networks with the same classes can be "
            "averaged."
        )
    return match(first.class_names, network.class_names, dataset=first.origin).index


def _averaged_batches(
    networks: Sequence[Classifier],
    orders: Sequence[Int64[np.ndarray, " n"]],
    source: Source,
    crops: int,
) -> Generator[LabeledProbabilities, None, None]:
    """The mean probabilities of each batch of the split, and its labels."""
    with contextlib.ExitStack() as opened:
        of_networks = [
            opened.enter_context(contextlib.closing(_batches(network, source, crops)))
            for network in networks
        ]
        for parts in zip(*of_networks, strict=True):
            total = sum(
                probabilities[:, order]
                for (probabilities, _), order in zip(parts, orders, strict=True)
            )
            yield total / len(networks), parts[0][1]


def _batches(
    network: Classifier, source: Source, crops: int
) -> Generator[LabeledProbabilities, None, None]:
    """One network's probabilities, and the labels."""
    data, labels = network.settings.data, []
    split = RescaledSplit(source.validation, data.rescale_size, data.rescale)
    opened = evaluation_batches(split, batch_size=BATCH)

    def images() -> Iterator[np.ndarray]:
        for batch in opened:
            real = batch["weight"] > 0  # the last batch is padded
            labels.append(batch["label"][real].astype(np.int64))
            yield batch["image"][real]

    with contextlib.closing(opened):
        for found in network.probability_batches(images(), crops=crops):
            yield found, labels.pop(0)


# --- Beside the paper -------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables, and under which protocol it was measured."""

    name: str
    classes: int
    examples: int
    crops: int
    networks: int
    top1: float
    top5: float


# Tables 1 and 2, and the footnote of section 6 on a single crop.
PAPER_ROWS = (
    PaperRow("Table 1, CNN (ILSVRC-2010 test)", 1000, 150_000, 10, 1, 0.375, 0.170),
    PaperRow("one center crop (ILSVRC-2010 test)", 1000, 150_000, 1, 1, 0.390, 0.183),
    PaperRow(
        "Table 2, 1 CNN (ILSVRC-2012 validation)", 1000, 50_000, 10, 1, 0.407, 0.182
    ),
    PaperRow(
        "Table 2, 5 CNNs (ILSVRC-2012 validation)", 1000, 50_000, 10, 5, 0.381, 0.164
    ),
)


def paper_row(errors: Errors) -> PaperRow | None:
    """The paper's row that was measured under the same protocol; None if there is none.

    The dataset is recognized by its classes, ImageNet's, and by its number of images. A
    network that is averaged with itself has no row: the paper's five are different.
    """
    if errors.loss is None or not all(
        name.startswith("n") and name[1:9].isdigit() for name in errors.class_names
    ):
        return None
    if len(set(errors.networks)) < len(errors.networks):
        return None
    for row in PAPER_ROWS:
        here = (
            len(errors.class_names),
            errors.num_examples,
            errors.crops,
            len(errors.networks),
        )
        if here == (row.classes, row.examples, row.crops, row.networks):
            return row
    return None


# --- Files ------------------------------------------------------------------------


def class_rows(errors: Errors) -> list[dict[str, Any]]:
    """A row for each class that has examples, the worst first, for a CSV file."""
    rows = []
    for k, name in enumerate(errors.class_names):
        if not (count := int(errors.examples[k])):
            continue
        mistaken = np.where(
            np.arange(len(errors.class_names)) == k, 0, errors.confusion[k]
        )
        most = int(mistaken.argmax())
        rows.append(
            {
                "class": name,
                "examples": count,
                "top1_errors": int(errors.top1_wrong[k]),
                "top1_error": int(errors.top1_wrong[k]) / count,
                "top5_errors": int(errors.top5_wrong[k]),
                "top5_error": int(errors.top5_wrong[k]) / count,
                "most_often_taken_for": errors.class_names[most]
                if mistaken[most]
                else "",
            }
        )
    return sorted(rows, key=lambda row: -row["top1_error"])


def facts(errors: Errors) -> Mapping[str, Any]:
    """The errors as JSON values, without those of single classes."""
    return {
        "dataset": errors.dataset,
        "split": errors.split,
        "networks": list(errors.networks),
        "crops": errors.crops,
        "examples": errors.num_examples,
        "top1_errors": errors.top1_errors,
        "top5_errors": errors.top5_errors,
        "top1_error": errors.top1_error,
        "top5_error": errors.top5_error,
        "loss": errors.loss,
        "unlabeled": errors.unlabeled,
        "notes": list(errors.notes),
    }
