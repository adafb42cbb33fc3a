"""Section 4.1: without random crops and horizontal reflections the network overfits.

Both, each alone, and neither, in which case every image is its center crop. The main answer
is the test error, which overfitting raises. Beside it stands the gap between test and
training error. Training errors are measured on augmented images, which are harder, so the
gap of an arm with crops or flips is underestimated, and the difference of gaps is biased
toward the paper's claim.

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice.
A mirrored digit is a different symbol, so on digits the arms with flips face a harder task
than the paper's: there the fair comparison is "none" against "crops only".

Run:    python -m alexnet_jax.main --config=configs/crops_and_flips.py              (digits)
        python -m alexnet_jax.main --config=configs/crops_and_flips.py:imagenet2012 (ImageNet)
Expect: top-1 error, and its gap over the training error, none - both: above 0 in the paper,
        which gives no number. Not run here on ImageNet; for digits see
        experiments/crops_and_flips/README.md
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "crops_and_flips"
    config.arms = {
        "both": {"data.random_crop": True, "data.random_flip": True},
        "crops only": {"data.random_crop": True, "data.random_flip": False},
        "flips only": {"data.random_crop": False, "data.random_flip": True},
        "none": {"data.random_crop": False, "data.random_flip": False},
    }
    config.seeds = 3
    config.claim = {
        "section": "4.1",
        "text": "Without random crops and horizontal reflections the network overfits",
        "metric": "top1_error",
        "compare": (
            ("none", "both"),
            ("crops only", "both"),
            ("flips only", "both"),
            ("none", "crops only"),
        ),
        "paper": "higher",
        "dataset": "imagenet2012",
        "also": ({"metric": "overfitting_gap", "paper": "higher"},),
    }
    return config
