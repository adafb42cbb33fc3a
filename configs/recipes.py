"""Sections 3 to 5: which AlexNet is it? Four networks called so, trained each in its own way.

The paper's text, the 2012 code's network 145, Caffe's and torchvision's: docs/recipes.md has
their choices. The paper makes no claim of this.

On digits, fashion_mnist and cifar10 a narrow AlexNet on 64 pixels; `SMALL` in
alexnet_jax/config.py says why. Sizes, batches and epochs are then the same in all four.

Run:    python -m alexnet_jax.main --config=configs/recipes.py              (digits)
        python -m alexnet_jax.main --config=configs/recipes.py:imagenet2012 (ImageNet)
Expect: top-1 error of each, less that of source2012. Not run here on ImageNet; on digits
        see experiments/recipes/README.md
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
    config.experiment = "recipes"
    config.arms = {
        name: {"recipe": name}
        for name in ("source2012", "paper", "caffe", "torchvision")
    }
    config.seeds = 3
    config.claim = {
        "section": "3 to 5",
        "text": "(asked here, not claimed) the recipes differ in their errors",
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
