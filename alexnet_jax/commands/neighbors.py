"""Finds the training images nearest to others by a network's features (Figure 4, right).

python -m alexnet_jax neighbors RUN QUERY [QUERY ...] [--among=DATASET] [--layer=fc7]
                                [--count=6] [--picture=FILE.png] [--json] [--arm=ARM]
                                [--cache=FOLDER]

QUERY is a file, a folder with images at any depth, or - for one image on the standard
input. DATASET is digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE; its
training images are searched: of a folder without splits those that are not held out, nine of
ten. Distances are Euclidean, of the features that a layer passes on
for the center crop, and exact; of equally near images the one that comes first in the dataset
comes first.
A training image whose pixels are those of the query is shown as well, and marked.

The features are computed once, and kept in the folder features of the run: 21 GB for fc7 of
ImageNet. Those of another network, dataset or layer are never used for them. An interrupted
or truncated computation is continued; features that have changed on the disk are refused.
"""

import sys

from absl import flags

AMONG = flags.DEFINE_string(
    "among", "", "Dataset to search. Default: the one it was trained on."
)
TFDS_DIR = flags.DEFINE_string("tfds_dir", "", "Data folder of TensorFlow Datasets.")
LAYER = flags.DEFINE_string(
    "layer",
    "",
    "Layer whose features are compared. Default: fc7, or the last hidden one.",
)
COUNT = flags.DEFINE_integer("count", 6, "Neighbors an image.", lower_bound=1)
CACHE = flags.DEFINE_string("cache", "", "Folder that keeps the features.")
PICTURE = flags.DEFINE_string(
    "picture", "", "PNG or SVG file for a figure of the images."
)
JSON = flags.DEFINE_bool("json", False, "Print JSON Lines in place of a table.")
ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")


def main(arguments: list[str]) -> None:
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained.similar import nearest_images

    settings = nearest_images.NeighborSettings(
        among=AMONG.value,
        tfds_dir=TFDS_DIR.value,
        layer=LAYER.value,
        count=COUNT.value,
        cache=CACHE.value,
        picture=PICTURE.value,
        as_json=JSON.value,
        arm=ARM.value,
    )
    origin, *queries = arguments
    if nearest_images.neighbors(origin, queries, settings):
        sys.exit(1)
