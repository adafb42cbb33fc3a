"""Names what is in images: the five most probable classes of each.

python -m alexnet_jax predict RUN IMAGE [IMAGE ...] [--arm=ARM] [--crops=1|10] [--top=5]
                              [--apply_orientation] [--picture=FILE.png] [--json]

IMAGE is a file, a folder with images at any depth, or - for one image on the standard
input. An image that cannot be read or does not exist is named, the others are classified, and
the exit status is then 1; without any image it is 2. --picture draws the images with their
classes in the manner of Figure 4.
"""

import sys

from absl import flags

ARM = flags.DEFINE_string("arm", "", "Which arm of a run with several.")
CROPS = flags.DEFINE_enum("crops", "1", ("1", "10"), "Crops of an image.")
TOP = flags.DEFINE_integer("top", 5, "Classes an image.", lower_bound=1)
ORIENTATION = flags.DEFINE_bool(
    "apply_orientation", False, "Turn photographs as their EXIF data say."
)
PICTURE = flags.DEFINE_string(
    "picture", "", "PNG or SVG file for a figure of images and bars."
)
JSON = flags.DEFINE_bool("json", False, "Print JSON Lines in place of a table.")


def main(arguments: list[str]) -> None:
    # JAX takes seconds to import; a misspelled flag is refused before.
    from alexnet_jax.trained import predictions

    origin, *images = arguments
    unreadable = predictions.predict(
        origin,
        images,
        arm=ARM.value,
        crops=int(CROPS.value),
        top=TOP.value,
        apply_orientation=ORIENTATION.value,
        picture=PICTURE.value,
        as_json=JSON.value,
    )
    if unreadable:
        sys.exit(1)
