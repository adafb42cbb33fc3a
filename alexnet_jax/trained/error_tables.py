"""The command `evaluate`: errors as a table, as JSON, and by class as CSV."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.data.types import Source
from alexnet_jax.errors import UserError
from alexnet_jax.files import atomic_file
from alexnet_jax.progress import Progress
from alexnet_jax.report.tables import plain
from alexnet_jax.trained.locate import load
from alexnet_jax.trained.measuring import (
    Errors,
    LabelSets,
    class_rows,
    facts,
    measure,
    paper_row,
)

CONFUSION_CLASSES = 12  # a confusion matrix is printed up to here
IMAGENET_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})")


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

    The arguments are the command's, in `commands/evaluate.py`.

    Raises:
      UserError: as `load` and `measure`; or if a file cannot be read or written.
    """
    if per_class and not Path(per_class).expanduser().absolute().parent.is_dir():
        raise UserError(f"--per_class={per_class}: there is no such folder.")
    networks = [load(origin, arm=arm) for origin in origins]
    source = networks[0].open_dataset(dataset, tfds_dir)
    sets = read_reassessed(Path(reassessed), source) if reassessed else None
    with Progress(source.validation.num_examples * len(networks)) as progress:
        progress.begin(source.name)
        errors = measure(
            networks,
            source,
            crops=crops,
            reassessed=sets,
            advance=lambda images: progress.advance(images * len(networks)),
        )
    if per_class:
        write_by_class(errors, Path(per_class).expanduser())
    if as_json:
        return json.dumps(facts(errors), indent=2)
    return text(errors)


def read_reassessed(path: Path, source: Source) -> LabelSets:
    """Reads labels in the form of ImageNet ReaL, in the order of the split's examples.

    The file holds a JSON list with a list of class numbers for each image of ImageNet's
    validation set, in the order of the images' own numbers.

    Raises:
      UserError: if the file cannot be read or has another form, or if the images are not
        files that are named as those of ImageNet are.
    """
    try:
        held = json.loads(path.expanduser().read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--reassessed={path} cannot be read: {error}.") from error
    classes = len(source.class_names)
    if not isinstance(held, list) or not all(
        isinstance(each, list)
        and all(type(k) is int and 0 <= k < classes for k in each)
        for each in held
    ):
        raise UserError(
            f"--reassessed={path}: a list is expected that holds, for each image, a list of "
            f"class numbers from 0 to {classes - 1}."
        )
    split, found = source.validation, []
    for index in range(split.num_examples):
        named = IMAGENET_IMAGE.search(split.where(index))
        number = int(named[1]) if named else 0
        if not 1 <= number <= len(held):
            raise UserError(
                f"--reassessed={path} has labels for the images ILSVRC2012_val_00000001 to "
                f"{len(held):08d}, and {source.name} has {split.where(index)}. Open "
                "ImageNet's validation images as folder=PATH, by their own names."
            )
        found.append(held[number - 1])
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
    lines = [f"{errors.dataset}, {errors.split} split, {crops}:", plain(rows)]
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
