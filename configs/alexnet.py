"""Section 6: AlexNet of 2012, with 18.2% top-5 error on the ImageNet validation set.

The eight layers in two towers, trained as network 145 of the 2012 code (recipe source2012):
SGD with momentum for 91 epochs, random crops, horizontal reflections, PCA color
augmentation, and dropout in the dense layers. Other recipes: --config.recipe=paper, caffe or
torchvision.

Run:    python -m alexnet_jax.main --config=configs/alexnet.py                 (digits)
        python -m alexnet_jax.main --config=configs/alexnet.py:imagenet2012    (the paper's data)
        python -m alexnet_jax.main --config=configs/alexnet.py:folder=PATH     (your own images)
Expect: top-5 error of one network on ImageNet with ten-crop evaluation: 18.2% in the paper.
        With five classes or fewer, top-1 error, and no comparison with the paper.
        Not run here: it needs ImageNet and a GPU. On digits it trains the small-data
        preset and evaluates one center crop.
"""

from alexnet_jax.config import base, small_data


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "alexnet"
    config.claim = {
        "section": "6, Table 2",
        "text": "One network has 18.2% top-5 error on ImageNet (ten crops)",
        "metric": "top5_error",
        "paper": 0.182,
        "dataset": "imagenet2012",
    }
    return config
