"""Section 3.1, Figure 1: ReLUs reach 25% training error on CIFAR-10 six times faster.

A four-layer convolutional network with ReLUs reaches that error six times faster than
the same network with tanh, each trained with the learning rate that suits it best and
no regularization of any kind.

Run:    python -m alexnet_jax.main --config=configs/relu_vs_tanh.py            (digits)
        python -m alexnet_jax.main --config=configs/relu_vs_tanh.py:cifar10    (the paper's data)
Expect: epochs to 25% training error, tanh / ReLU: 6 in the paper, and 6.4 measured here on
        CIFAR-10, from a JPEG copy: experiments/relu_vs_tanh/cifar10/README.md; for digits
        see experiments/relu_vs_tanh/README.md
"""

from alexnet_jax.config import base, short_name


def get_config(dataset="digits"):
    config = base(dataset, network="four_layer")
    config.experiment = "relu_vs_tanh"
    config.arms = {
        "ReLU": {"model.activation": "relu"},
        "tanh": {"model.activation": "tanh"},
    }
    # "The learning rates for each network were chosen independently": by a seed of their
    # own, before the measured ones. With --config.tuning_seeds=0 all seeds are trained at
    # all rates, which also compares the networks at equal rates.
    config.tuned = {"optimizer.learning_rate": (0.0003, 0.001, 0.003, 0.01, 0.03)}
    config.tuning_seeds = 1
    config.seeds = 3
    config.claim = {
        "section": "3.1, Figure 1",
        "text": "ReLUs reach 25% training error six times faster than tanh",
        "metric": "epochs_to_train_error",
        "threshold": 0.25,
        "compare": ("tanh", "ReLU"),
        "paper": 6.0,
        "dataset": "cifar10",
    }
    # At its best rate tanh takes 35 to 40.1 epochs: measured trials may take longer.
    config.training.num_epochs = 100.0
    config.tuning_epochs = 40.0
    config.training.log_every_epochs = 0.2
    # One trial after another: each ends once it has answered, and shows when the next one
    # can be given up.
    config.spread = "batch"
    if short_name(dataset) == "digits":
        # 1,438 images of 8x8 pixels: twice the size, half the kernels, small batches.
        config.data.rescale_size = config.data.crop_size = 16
        config.spread = "auto"  # two cores train two trials at once, so
        config.seeds = 4
        config.model.width = 0.5
        config.training.batch_size = 16
        config.training.num_epochs = 2.5
        config.tuning_epochs = 0.0
        # A trial takes a second: it needs no checkpoint to resume from, only the last one,
        # which the notebook reads.
        config.training.checkpoint_every_epochs = 1000.0
        config.tuned = {
            "optimizer.learning_rate": (0.002, 0.004, 0.006, 0.01, 0.05, 0.2)
        }
    if short_name(dataset) == "fashion_mnist":
        # The original 28x28 pixels, half the kernels, small batches: both arms reach the
        # threshold within an epoch, and a trial takes half a minute.
        config.data.rescale_size = config.data.crop_size = 28
        config.spread = "auto"
        config.model.width = 0.5
        config.training.batch_size = 32
        config.training.num_epochs = 1.0
        config.tuning_epochs = 0.0
        config.training.log_every_epochs = 0.02
        config.training.checkpoint_every_epochs = 1000.0
        config.tuned = {
            "optimizer.learning_rate": (0.001, 0.003, 0.005, 0.01, 0.03, 0.1)
        }
    return config
