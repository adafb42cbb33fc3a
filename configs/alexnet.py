"""Section 6: AlexNet as in 2012, 18.2% top-5 error on ImageNet's validation set.

The eight layers in two towers as network 145 of the 2012 code had them and trained them
(recipe source2012): SGD with momentum for 91 epochs, random crops, reflections and colour
shifts, dropout in the dense layers. --config.recipe=paper, caffe or torchvision for others.

Run:    python -m alexnet_jax.main --config=configs/alexnet.py                 (digits, narrow)
        python -m alexnet_jax.main --config=configs/alexnet.py:imagenet2012    (the paper's data)
        python -m alexnet_jax.main --config=configs/alexnet.py:folder=PATH     (your own pictures)
Expect: top-5 error of one network on ImageNet, with ten views: 18.2% in the paper. Not run
        here: it needs ImageNet and a GPU. On digits one central view.
"""

from alexnet_jax.config import base, narrow


def get_config(dataset="digits"):
    config = narrow(base(dataset))
    config.experiment = "alexnet"
    config.claim = {
        "section": "6, Table 2",
        "text": "One network makes 18.2% top-5 errors on ImageNet (ten views)",
        "metric": "top5_error",
        "paper": 0.182,
        "dataset": "imagenet2012",
    }
    return config
