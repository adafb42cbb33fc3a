"""Section 4.2: without dropout the network overfits.

Dropout of half the units of fc6 and fc7, against none. The paper also says that dropout about
doubles the iterations to convergence: the curves show it.

On digits, fashion_mnist and cifar10 a narrow AlexNet on 64 pixels; `SMALL` in
alexnet_jax/config.py says why.

Run:    python -m alexnet_jax.main --config=configs/dropout.py              (digits)
        python -m alexnet_jax.main --config=configs/dropout.py:imagenet2012 (ImageNet)
Expect: top-1 error, no dropout - dropout: above 0 in the paper, without a number. Not run
        here on ImageNet; on digits see experiments/dropout/README.md
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
    config.experiment = "dropout"
    config.arms = {
        "dropout": {"model.dropout_rate": 0.5},
        "no dropout": {"model.dropout_rate": 0.0},
    }
    config.seeds = 3
    config.claim = {
        "section": "4.2",
        "text": "Without dropout the network exhibits substantial overfitting",
        "metric": "top1_error",
        "compare": ("no dropout", "dropout"),
        "paper": "higher",
        "dataset": "imagenet2012",
    }
    return config
