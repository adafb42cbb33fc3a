"""Moves weights in and out: networks of torchvision and Caffe, safetensors, StableHLO, ONNX.

python -m alexnet_jax weights import FILE --output=NET.safetensors
                              [--mean=FILE] [--classes=FILE]
python -m alexnet_jax weights export RUN --output=FILE [--form=torchvision] [--arm=ARM]

import reads torchvision's AlexNet (.pth, without running what it holds, or .safetensors),
and Caffe's bvlc_alexnet and CaffeNet (.caffemodel, with the mean image by --mean, a
.binaryproto or .npy). The file that it writes is used like a run, as RUN.

export writes by the suffix of FILE: a complete network (.safetensors) or, with
--form=torchvision, the state dict of torchvision's AlexNet; a program for jax.export
(.stablehlo); a graph (.onnx, with the extra onnx). What was written is read again and
compared before it is kept.
"""

from pathlib import Path

from absl import flags

from alexnet_jax.errors import UserError, nearest

ACTIONS = ("import", "export")
OUTPUT = flags.DEFINE_string("output", "", "File to write.")
MEAN = flags.DEFINE_string("mean", "", "Caffe's mean image, .binaryproto or .npy.")
CLASSES = flags.DEFINE_string(
    "classes", "", "File of the classes' names, one a line. Default: ImageNet's 1,000."
)
FORM = flags.DEFINE_enum("form", "", ("", "torchvision"), "Whose state dict to write.")
ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")


def main(arguments: list[str]) -> None:
    action, *given = arguments or [""]
    if action not in ACTIONS:
        raise UserError(
            "Say what to do: python -m alexnet_jax weights import FILE, or export RUN."
            + nearest(action, ACTIONS)
        )
    if len(given) != 1 or not OUTPUT.value:
        what = (
            "FILE --output=NET.safetensors"
            if action == "import"
            else "RUN --output=FILE"
        )
        raise UserError(
            f"Give one network and --output: python -m alexnet_jax weights {action} {what}."
        )
    foreign = {"import": (FORM, ARM), "export": (MEAN, CLASSES)}[action]
    for flag in foreign:
        if flag.value:
            raise UserError(f"--{flag.name} has no effect on weights {action}.")
    output = Path(OUTPUT.value).expanduser()
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained.exchange import weights_command

    if action == "import":
        print(
            weights_command.imported(
                Path(given[0]).expanduser(), output, MEAN.value, CLASSES.value
            )
        )
    else:
        print(weights_command.exported(given[0], output, FORM.value, ARM.value))
