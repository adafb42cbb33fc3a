"""Measures the errors of a trained network, or of an average of several, on a dataset.

python -m alexnet_jax evaluate RUN [RUN ...] --dataset=DATASET [--crops=1|10] [--arm=ARM]
                               [--per_class=FILE.csv] [--reassessed=FILE.json] [--json]

DATASET is digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE, as for training. Its
validation images are used, else its test images, each once; where neither are held out, all
images, unless a network was trained on this dataset: then those held out in its training. The
result says which. Classes are matched by their names. With several networks, which must be
different, their probabilities are averaged. The paper's errors stand beside these where they
were measured in the same way.

--reassessed takes a JSON list that holds for each of ImageNet's validation images, in the order
of their numbers, a list of class numbers. Of a network with ImageNet's 1,000 classes these are
their places in the order of the WordNet ids; of a network whose classes are named 0, 1, 2, ...,
these names; of any other, positions in the dataset's list of classes, from 0. The result says
which.
"""

from absl import flags

DATASET = flags.DEFINE_string(
    "dataset", "", "Dataset to measure on. Default: the one it was trained on."
)
TFDS_DIR = flags.DEFINE_string("tfds_dir", "", "Data folder of TensorFlow Datasets.")
CROPS = flags.DEFINE_enum("crops", "1", ("1", "10"), "Crops of an image.")
ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")
PER_CLASS = flags.DEFINE_string("per_class", "", "CSV file for the errors by class.")
REASSESSED = flags.DEFINE_string(
    "reassessed", "", "JSON file of reassessed labels, in the form of ImageNet ReaL."
)
JSON = flags.DEFINE_bool("json", False, "Print JSON in place of a table.")


def main(origins: list[str]) -> None:
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained import error_tables

    print(
        error_tables.evaluate(
            origins,
            arm=ARM.value,
            dataset=DATASET.value,
            tfds_dir=TFDS_DIR.value,
            crops=int(CROPS.value),
            per_class=PER_CLASS.value,
            reassessed=REASSESSED.value,
            as_json=JSON.value,
        )
    )
