"""A run of two small arms, of half an epoch each."""

from small_trial import tiny


def two_arms():
    config = tiny(training__num_epochs=0.5)
    config.experiment = "tiny"
    with config.unlocked():
        config.arms = {"ReLU": {}, "tanh": {"model.activation": "tanh"}}
    config.claim = {
        "section": "3.1",
        "text": "fewer errors",
        "metric": "top1_error",
        "compare": ("tanh", "ReLU"),
        "paper": "higher",
        "dataset": "cifar10",
    }
    return config
