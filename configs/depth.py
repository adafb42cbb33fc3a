"""Section 7: without any one of the middle layers, about 2 points more top-1 errors.

All eight layers; then each of conv2 to fc7 left out, with the normalization and pooling
behind it left in.

On digits, fashion_mnist and cifar10 a narrow AlexNet on 64 pixels; `SMALL` in
alexnet_jax/config.py says why.

Run:    python -m alexnet_jax.main --config=configs/depth.py              (digits)
        python -m alexnet_jax.main --config=configs/depth.py:imagenet2012 (ImageNet)
Expect: top-1 error, without a layer - all: about 2 points in the paper. Not run
        here on ImageNet; on digits see experiments/depth/README.md
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
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
        "text": "Removing any middle layer costs about 2 points of top-1",
        "metric": "top1_error",
        "compare": tuple((f"without {one}", "all") for one in removed),
        "paper": 0.02,
        "dataset": "imagenet2012",
    }
    return config
