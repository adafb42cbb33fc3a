"""Section 5: biases that start at one speed up the early stages of learning.

Ones in conv2, conv4, conv5 and the hidden dense layers, zeros in the others; against zeros
in all of them.

On digits, fashion_mnist and cifar10 a narrow AlexNet on 64 pixels; `SMALL` in
alexnet_jax/config.py says why.

Run:    python -m alexnet_jax.main --config=configs/bias_initialization.py              (digits)
        python -m alexnet_jax.main --config=configs/bias_initialization.py:imagenet2012 (ImageNet)
Expect: epochs to 50% training error, zeros / ones: above 1 in the paper, without a number.
        Not run here on ImageNet; on digits see experiments/bias_initialization/README.md
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
    config.experiment = "bias_initialization"
    config.arms = {
        "ones": {"model.biases": (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)},
        "zeros": {"model.biases": (0.0,) * 9},
    }
    config.seeds = 3
    config.claim = {
        "section": "5",
        "text": "Biases that start at one speed up the early stages of learning",
        "metric": "epochs_to_train_error",
        "threshold": 0.5,  # ours: "the early stages"
        "compare": ("zeros", "ones"),
        "paper": "higher",
        "dataset": "imagenet2012",
    }
    return config
