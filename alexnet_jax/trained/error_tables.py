"""The command `evaluate`: errors as a table, as JSON, and by class as CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.errors import UserError
from alexnet_jax.files import atomic_file
from alexnet_jax.progress import Progress
from alexnet_jax.report.tables import plain
from alexnet_jax.trained.locate import load_different
from alexnet_jax.trained.measuring import (
    Errors,
    class_rows,
    facts,
    measure,
    paper_row,
)
from alexnet_jax.trained.reassessed_labels import read_reassessed

CONFUSION_CLASSES = 12  # a confusion matrix is shown up to here


def evaluate(
    origins: Sequence[str],
    *,
    arm: str,
    dataset: str,
    tfds_dir: str,
    crops: int,
    per_class: str,
    reassessed: str,
    as_json: bool,
) -> str:
    """Measures the networks, writes the errors by class, and returns what to print.

    Args:
      origins: runs, trials, checkpoints or exported files; several are averaged.
      arm: which arm of a run with several.
      dataset: digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE.
      tfds_dir: the data folder of TensorFlow Datasets; "": that of the training.
      crops: 1 for the center crop, or 10.
      per_class: the CSV file for the errors by class; "": none.
      reassessed: a JSON file in the form of ImageNet ReaL; "": the dataset's labels.
      as_json: return JSON in place of a table.

    Raises:
      UserError: if a network, the dataset or a file cannot be read or written, two
        networks are the same, or a class is unknown.
    """
    table = Path(per_class).expanduser().absolute()
    if per_class and not table.parent.is_dir():
        raise UserError(f"--per_class={per_class}: there is no such folder.")
    if per_class and table.is_dir():
        raise UserError(f"--per_class={per_class} is a folder: name a file in it.")
    networks = load_different(origins, arm=arm)
    first, *others = networks
    source = first.open_to_measure(dataset, tfds_dir, beside=others)
    sets, notes = None, []
    if reassessed:
        sets, note = read_reassessed(Path(reassessed), source, first.class_names)
        notes.append(note)
    with Progress(source.validation.num_examples * len(networks)) as progress:
        progress.begin(source.name)
        errors = measure(
            networks,
            source,
            crops=crops,
            reassessed=sets,
            advance=lambda images: progress.advance(images * len(networks)),
        )
    errors = dataclasses.replace(errors, notes=(*errors.notes, *notes))
    found = text(errors)
    if as_json:
        everything = {**facts(errors), "confusion": confusion(errors)}
        found = json.dumps(everything, indent=2)
    if per_class:
        try:
            write_by_class(errors, table)
        except OSError:
            print(found, flush=True)  # the measurement may have taken hours
            raise
    return found


def text(errors: Errors) -> str:
    """The errors as a table with the paper's, if there are any to compare with."""
    top5 = len(errors.class_names) > 5
    rows = [
        ["", "images", "loss, nats", "top-1 error", *(["top-5 error"] if top5 else [])]
    ]
    counted = f"{errors.num_examples:,}"
    loss = "-" if errors.loss is None else f"{errors.loss:.4f}"
    own = [_name(errors), counted, loss, _share(errors.top1_errors, errors)]
    rows.append([*own, *([_share(errors.top5_errors, errors)] if top5 else [])])
    beside = paper_row(errors)
    if beside is not None:
        of_paper = [f"{beside.top1:.1%}", f"{beside.top5:.1%}"]
        rows.append(
            [f"the paper: {beside.name}", f"{beside.examples:,}", "-", *of_paper]
        )
    crops = "center crop" if errors.crops == 1 else "ten crops"
    lines = [f"{errors.dataset}, {errors.measured}, {crops}:", plain(rows)]
    if not top5:
        lines.append("With five classes or fewer there is no top-5 error.")
    if errors.unlabeled:
        lines.append(
            f"{errors.unlabeled:,} images have no reassessed label and do not count."
        )
    lines += errors.notes
    if len(errors.class_names) <= CONFUSION_CLASSES:
        lines += ["", "Images by class (rows) and by the network's first choice:", ""]
        lines.append(plain(confusion_rows(errors)))
    return "\n".join(lines)


def _name(errors: Errors) -> str:
    if len(errors.networks) == 1:
        return errors.networks[0]
    return f"average of {len(errors.networks)} networks"


def _share(wrong: int, errors: Errors) -> str:
    return f"{wrong / errors.num_examples:.2%} ({wrong:,})"


def confusion(errors: Errors) -> dict[str, Any] | None:
    """The confusion matrix as JSON values; None with more than CONFUSION_CLASSES classes.

    Rows are the classes of the images, columns the network's first choices.
    """
    if len(errors.class_names) > CONFUSION_CLASSES:
        return None
    return {"classes": list(errors.class_names), "images": errors.confusion.tolist()}


def confusion_rows(errors: Errors) -> list[list[str]]:
    """The confusion matrix with its headings."""
    names = [name[:12] for name in errors.class_names]
    rows = [["", *names]]
    for name, counts in zip(names, errors.confusion.tolist(), strict=True):
        rows.append([name, *(str(count) if count else "." for count in counts)])
    return rows


def write_by_class(errors: Errors, path: Path) -> None:
    """Writes a row for each class, the worst first, as CSV.

    Raises:
      OSError: if it cannot be written.
    """
    rows: list[dict[str, Any]] = class_rows(errors)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(buffer.getvalue().encode())
