"""Section 7: removing any one of the middle layers costs about 2 points of top-1 error.

All eight layers, and then each of conv2 to fc7 left out, while the normalization and pooling
after it remain.

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice.

Run:    python -m alexnet_jax.main --config=configs/depth.py              (digits)
        python -m alexnet_jax.main --config=configs/depth.py:imagenet2012 (ImageNet)
Expect: top-1 error, without a layer - all: about 2 points in the paper. Not run here on
        ImageNet; for digits see experiments/depth/README.md
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "depth"
    channels = (96, 256, 384, 384, 256, 0, 4096, 4096)
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7")
    removed = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    config.arms = {"all": {}} | {
        f"without {one}": {
            "model.channels": tuple(
                0 if layer == one else count
                for layer, count in zip(layers, channels, strict=True)
            )
        }
        for one in removed
    }
    config.seeds = 3
    config.claim = {
        "section": "7",
        "text": "Removing any middle layer costs about 2 points of top-1 error",
        "metric": "top1_error",
        "compare": tuple((f"without {one}", "all") for one in removed),
        "paper": 0.02,
        "dataset": "imagenet2012",
    }
    return config
