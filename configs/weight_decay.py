"""Section 5: weight decay also lowers the training error.

0.0005 against 0: "not merely a regularizer: it reduces the model's training error".

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice.

Run:    python -m alexnet_jax.main --config=configs/weight_decay.py              (digits)
        python -m alexnet_jax.main --config=configs/weight_decay.py:imagenet2012 (ImageNet)
Expect: last training error, no weight decay - weight decay: above 0 in the paper, which gives
        no number. Not run here on ImageNet; for digits see experiments/weight_decay/README.md
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "weight_decay"
    config.arms = {
        "weight decay": {"optimizer.weight_decay": 0.0005},
        "no weight decay": {"optimizer.weight_decay": 0.0},
    }
    config.seeds = 3
    config.claim = {
        "section": "5",
        "text": "Weight decay also lowers the training error",
        "metric": "train_top1_error",
        "compare": ("no weight decay", "weight decay"),
        "paper": "higher",
        "dataset": "imagenet2012",
    }
    return config
