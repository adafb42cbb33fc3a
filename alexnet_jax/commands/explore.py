"""Makes one page about a trained network: what it is, sees and mistakes.

python -m alexnet_jax explore RUN [--dataset=DATASET] [--images=PATH ...] [--arm=ARM]
                              [--output=explore.html]

The page shows the kernels of the first layer, what each layer passes on for a few images,
the most confident mistakes, the training images nearest to these images, errors by class,
and dead units. It is a single HTML file that loads nothing else.

DATASET is digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE; by default the one that
the network was trained on. Where that is gone, the page shows what takes no data. Errors are
measured on the same images as by evaluate. --images names an image or a folder, and may be given
several times; by default images are chosen from those that are measured.
"""

import sys

from absl import flags

ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")
DATASET = flags.DEFINE_string(
    "dataset", "", "Dataset to measure and show. Default: the one it was trained on."
)
TFDS_DIR = flags.DEFINE_string("tfds_dir", "", "Data folder of TensorFlow Datasets.")
IMAGES = flags.DEFINE_multi_string("images", [], "Image or folder of images to show.")
OUTPUT = flags.DEFINE_string("output", "explore.html", "HTML file to write.")


def main(arguments: list[str]) -> None:
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained.explore import explore_command

    unreadable = explore_command.explore(
        arguments[0],
        arm=ARM.value,
        dataset=DATASET.value,
        tfds_dir=TFDS_DIR.value,
        images=IMAGES.value,
        output=OUTPUT.value,
    )
    if unreadable:
        sys.exit(1)
