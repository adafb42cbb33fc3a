"""Times this project's layers, train step, input and runs against other implementations.

python -m benchmarks --what=layers|step|input|end_to_end|loop|population|first|predict|prepare
                     [--batch_size=32] [--repeats=5]
                     [--dtype=float32|tf32|bfloat16] [--output=FILE.json]
                     [--images=FOLDER]

layers, step: against plain JAX and PyTorch. input: images/s against plain tf.data, Pillow
and grain, in batches of 128. end_to_end: the step fed by the input, and which of the two
waits. loop: what a run costs besides its steps: the loop, a save, a start. population:
small trials one after the other, and trained together as --config.population=true does.
first: the README's first commands from their start to the figure, or to the first step.
predict: images/s from JPEG files to answers against PyTorch; the command predict to its first
answer; neighbors among 100,000 features. prepare: CPU time for each of 100,000 small JPEG
files, and of photographs.

The implementations of a row run in one process, in turns, and the medians are reported.
On a CPU, layers, step and input are timed twice: on one core by the CPU time of the
process, and on all cores by the wall clock. Everything else is timed by the wall clock.
Steps take 8 GB of memory and half an hour at batch size 32.
"""

from absl import flags

from alexnet_jax import cli
from benchmarks.run import MODULES, run_benchmark

WHAT = flags.DEFINE_enum("what", None, list(MODULES), "The benchmark to run.")
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images per step. Default: 128 for input, loop and predict, 32 for the others.",
    lower_bound=1,
)
REPEATS = flags.DEFINE_integer(
    "repeats", 5, "How often each implementation is timed.", lower_bound=1
)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "tf32", "bfloat16"], "The type to compute in."
)
IMAGES = flags.DEFINE_string(
    "images",
    "",
    "Folder of photographs, as --config=FILE:folder=PATH takes it, for input, end_to_end "
    "and predict. Default: photographs made of scikit-learn's and scikit-image's.",
)
OUTPUT = flags.DEFINE_string("output", "", "JSON file to write the report to.")


def main(_: list[str]) -> None:
    table = run_benchmark(
        WHAT.value,
        batch_size=BATCH_SIZE.value,
        repeats=REPEATS.value,
        dtype=DTYPE.value,
        output=OUTPUT.value,
        images=IMAGES.value,
    )
    print(table)


if __name__ == "__main__":
    cli.run(main, with_config=False)
