"""Measures the errors of a trained network, or of an average of several, on a dataset.

python -m alexnet_jax evaluate RUN [RUN ...] --dataset=DATASET [--crops=1|10] [--arm=ARM]
                               [--per_class=FILE.csv] [--reassessed=FILE.json] [--json]

DATASET is digits, a name of TensorFlow Datasets, folder=PATH or npz=FILE, as for training; its
validation or test images are used, each once. Classes are matched by their names. With
several networks their probabilities are averaged. The paper's errors stand beside these
where they were measured in the same way.
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
