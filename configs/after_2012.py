"""Sections 3 to 5, ten years on: which of the following decade's ideas would have helped?

AlexNet of 2012, each idea alone in its place, then all of them together. An idea has the
values that its paper or its library took as a rule; none of them is tuned here, nor is the
network of 2012, whose rate and schedule were chosen for it. All arms see the same number
of images. In 2012 biases had twice the learning rate and no drops: with AdamW they have the
same rate as kernels, and with the cosine they follow it too.

    batch normalization     Ioffe and Szegedy (2015), in place of local response normalization
    He initialization       He et al., "Delving Deep into Rectifiers" (2015), with inputs
                            divided by ImageNet's standard deviations, as in torchvision
    AdamW                   Loshchilov and Hutter (2019), with PyTorch's rate and decay
    cosine and warm-up      Loshchilov and Hutter, "SGDR" (2017); Goyal et al. (2017), 5
                            of 90 epochs, or that share of the preset's
    label smoothing         Szegedy et al., "Rethinking the Inception Architecture" (2016)
    random resized crops    Szegedy et al., "Going Deeper with Convolutions" (2015)
    mixup                   Zhang et al. (2018)
    moving average          Polyak and Juditsky (1992), as of the parameters by Szegedy et al.
    GELU                    Hendrycks and Gimpel (2016)

On digits, fashion_mnist and cifar10 it trains the small-data preset, a narrower AlexNet on
64x64 pixels; alexnet_jax/config/presets.py explains the choice. Crops there have at least a
third of the area: a smaller part of a digit may show no digit.

Run:    python -m alexnet_jax.main --config=configs/after_2012.py              (digits)
        python -m alexnet_jax.main --config=configs/after_2012.py:cifar10      (four epochs)
        python -m alexnet_jax.main --config=configs/after_2012.py:imagenet2012 (ImageNet)
Expect: top-1 error, each arm - AlexNet of 2012, with a 95% interval over three seeds; no
        paper gives these numbers. Not run here on ImageNet; for digits and CIFAR-10 see
        experiments/after_2012/README.md
"""

from alexnet_jax.config import base, short_name, small_data

SMALL = ("digits", "fashion_mnist", "cifar10")


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "after_2012"
    small = short_name(dataset) in SMALL
    if short_name(dataset) == "cifar10":
        # 33 trials: 37 minutes on two cores by the preflight, in place of 60 epochs.
        config.training.num_epochs = 4.0
        config.optimizer.drop_epochs = (3.0, 3.5)
    epochs = config.training.num_epochs
    ideas: dict[str, dict] = {
        "batch normalization": {"model.normalization": "batch"},
        # It preserves the scale of the inputs, and pixels are of +-60: so would logits be.
        "He initialization": {
            "model.initialization": "he",
            "data.channel_scale": (58.395, 57.12, 57.375),
        },
        "AdamW": {
            "optimizer.name": "adamw",
            "optimizer.learning_rate": 0.001,
            "optimizer.bias_lr_multiplier": 1.0,
            "optimizer.weight_decay": 0.01,
        },
        "cosine and warm-up": {
            "optimizer.schedule": "cosine",
            "optimizer.bias_drops": True,
            "optimizer.warmup_epochs": round(epochs * 5 / 90, 2),
        },
        "label smoothing": {"training.label_smoothing": 0.1},
        "random resized crops": {"data.random_resized_crop": 0.33 if small else 0.08},
        "mixup": {"data.mixup": 0.2},
        "moving average": {"optimizer.ema_decay": 0.99 if small else 0.9999},
        "GELU": {"model.activation": "gelu"},
    }
    config.arms = {
        "2012": {},
        **ideas,
        "all together": {
            name: v for idea in ideas.values() for name, v in idea.items()
        },
    }
    config.claim = {
        "section": "3 to 5",
        "text": "(a question of ours, not a claim of the paper) Ideas of the years after 2012 "
        "change AlexNet's error",
        "metric": "top1_error",
        "compare": tuple((arm, "2012") for arm in config.arms if arm != "2012"),
        "paper": None,
        "dataset": "imagenet2012",
    }
    config.seeds = 3
    return config
