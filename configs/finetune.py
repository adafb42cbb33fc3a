"""Section 6: is a network that was trained on other images better on yours than a new one?

The paper fine-tunes a network of the whole of ImageNet on ImageNet 2012, and does not compare
that with training from scratch. Here both are trained on the same images, in the form of the
trained network: its layers, width, image size and recipe. From scratch, all weights are drawn.
Fine-tuned, all layers but the last have the trained network's, and learn at a tenth of the
rate; the last one is new and learns at ten times theirs.

Run:    python -m alexnet_jax.main --config=configs/finetune.py:folder=PATH \\
            --config.training.init_from=NETWORK
        NETWORK is a trial's folder such as runs/alexnet-digits/alexnet/seed0, a checkpoint
        or an exported file. Of the fine-tuned arm alone,
        --config.optimizer.frozen_layers=5 freezes conv1 to conv5, and
        --config.optimizer.layer_lr_multipliers=conv1-conv5=0.01,others=0.1,last=1 sets the
        rates of its layers.
Expect: top-1 error, fine-tuned - from scratch, with a 95% interval over three seeds. On digits
        see experiments/finetune/README.md
"""

from alexnet_jax.config import base
from alexnet_jax.config.arm_values import FromCommandLine

NETWORK = "a trained network: a trial's folder, a checkpoint or an exported file"


def get_config(dataset="digits"):
    config = base(dataset)
    config.experiment = "finetune"
    config.preset = "small"  # its batches and epochs; the network has its own form
    config.arms = {
        "from scratch": {
            "training.init_from": "",
            "optimizer.layer_lr_multipliers": "",
            "optimizer.frozen_layers": 0,
        },
        "fine-tuned": {
            "training.init_from": FromCommandLine(what=NETWORK, gives_form=True),
            "optimizer.layer_lr_multipliers": FromCommandLine("others=0.1,last=1"),
            "optimizer.frozen_layers": FromCommandLine(0),
        },
    }
    config.seeds = 3
    return config
