"""Section 5: biases initialized to one speed up the early stages of learning.

Ones in conv2, conv4, conv5 and the hidden dense layers and zeros elsewhere, against zeros in
all layers.

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice.

Run:    python -m alexnet_jax.main --config=configs/bias_initialization.py              (digits)
        python -m alexnet_jax.main --config=configs/bias_initialization.py:imagenet2012 (ImageNet)
Expect: epochs to 50% training error, zeros / ones: above 1 in the paper, which gives no
        number. Not run here on ImageNet; for digits see
        experiments/bias_initialization/README.md
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "bias_initialization"
    config.arms = {
        "ones": {"model.biases": (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)},
        "zeros": {"model.biases": (0.0,) * 9},
    }
    config.seeds = 3
    config.claim = {
        "section": "5",
        "text": "Biases initialized to one speed up the early stages of learning",
        "metric": "epochs_to_train_error",
        "threshold": 0.5,  # Our reading of "the early stages".
        "compare": ("zeros", "ones"),
        "paper": "higher",
        "dataset": "imagenet2012",
    }
    return config
