"""Section 4.1: without random crops and reflections the network overfits.

Both, each alone, and none: then every image is its centre. The main answer is the test
error, which overfitting raises. The gap between test and training error stands beside it:
training errors are measured on the images as augmented, which are harder, so the gap of an
arm with crops or flips is too small, and the difference of gaps leans to the paper's side.

On digits, fashion_mnist and cifar10 a narrow AlexNet on 64 pixels; `SMALL` in
alexnet_jax/config.py says why. A mirrored digit is another sign, so on digits the arms
with flips ask more than the paper's: there "none" against "crops only" is the fair question.

Run:    python -m alexnet_jax.main --config=configs/crops_and_flips.py              (digits)
        python -m alexnet_jax.main --config=configs/crops_and_flips.py:imagenet2012 (ImageNet)
Expect: top-1 error, and its gap over the training error, none - both: above 0 in the paper,
        without a number. Not run here on ImageNet; on digits see
        experiments/crops_and_flips/README.md
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
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
        "text": "Without random crops and reflections the network overfits",
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
