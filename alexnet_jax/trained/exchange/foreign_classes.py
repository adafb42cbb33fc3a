"""The names of the classes of networks from elsewhere: ImageNet's 1,000, or those of a file."""

from pathlib import Path

from alexnet_jax.errors import UserError

IMAGENET = Path(__file__).with_name("imagenet_classes.txt")
MOST_BYTES = 2**24


def imagenet_classes() -> tuple[str, ...]:
    """WordNet id and words of the 1,000 classes, in the order of ILSVRC-2012's numbers.

    That is the order of the ids, and of the outputs of torchvision's and Caffe's networks.
    """
    lines = IMAGENET.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in a file, one a line, in the order of a network's outputs.

    Raises:
      UserError: if it cannot be read, is no text, or names a class twice or not at all.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than any list of classes.")
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not UTF-8 text.") from error
    names = [line.strip() for line in lines]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise UserError(f"{path}, line {number}: a line without a name.")
        if seen.setdefault(name, number) != number:
            raise UserError(
                f"{path}, line {number}: '{name}' is also in line {seen[name]}."
            )
    return tuple(names)
