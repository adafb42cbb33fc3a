"""Sections 3 to 5: how do the four networks that are called AlexNet compare?

The paper's text, network 145 of the 2012 code, Caffe's and torchvision's, each trained in its
own way; docs/recipes.md lists their choices. The paper makes no claim about this.

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice.
Image sizes, batch sizes and epochs are then the same in all four.

Run:    python -m alexnet_jax.main --config=configs/recipes.py              (digits)
        python -m alexnet_jax.main --config=configs/recipes.py:imagenet2012 (ImageNet)
Expect: top-1 error of each recipe minus that of source2012. Not run here on ImageNet; for
        digits see experiments/recipes/README.md
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "recipes"
    config.arms = {
        name: {"recipe": name}
        for name in ("source2012", "paper", "caffe", "torchvision")
    }
    config.seeds = 3
    config.claim = {
        "section": "3 to 5",
        "text": "(a question of ours, not a claim of the paper) The recipes differ in their errors",
        "metric": "top1_error",
        "compare": (
            ("paper", "source2012"),
            ("caffe", "source2012"),
            ("torchvision", "source2012"),
        ),
        "paper": None,
        "dataset": "imagenet2012",
    }
    return config
