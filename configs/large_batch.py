"""Section 5, larger batches: what is lost with 8 and with 64 times the images in a step?

The paper's batch of 128 images leaves many devices idle. Batches of 1,024 and 8,192 make 8
and 64 times fewer steps of the same images. Two remedies are compared with the small batch:
the linear scaling rule, by which the learning rate grows with the batch, after a warm-up
(Goyal et al., "Accurate, Large Minibatch SGD", 2017); and LARS, by which the kernel of each
layer moves by a share of its own norm (You et al., "Large Batch Training of Convolutional
Networks", 2017), with the same warm-up; biases then move as by the linear rule.

The rule: the learning rate is in proportion to the batch, and that of the recipe or preset
for its own (0.01 for 128 images, on digits for 32), reached after the first 5 of 90 epochs,
or that share of the preset's epochs. On digits, which have 1,438 training images, the batches
are 16, 128 and 1,024, so that the last makes 29 steps in all, of which one or two are its
warm-up; on fashion_mnist and cifar10 they are 32, 256 and 2,048. On these three it trains
the small-data preset, a narrower AlexNet on 64x64 pixels;
alexnet_jax/config/presets.py explains the choice.

Run:    python -m alexnet_jax.main --config=configs/large_batch.py              (digits)
        python -m alexnet_jax.main --config=configs/large_batch.py:imagenet2012 (ImageNet)
Expect: top-1 error, each arm - the small batch, with a 95% interval over three seeds; near 0
        by the linear rule with ResNet-50 (Goyal et al.) and by LARS with AlexNet up to
        8,192 images (You et al.), for whom the rule alone did not suffice. Not run here on
        ImageNet; for digits see experiments/large_batch/README.md
"""

from alexnet_jax.config import base, short_name, small_data

BATCHES = {"digits": 16, "fashion_mnist": 32, "cifar10": 32}
# Of LARS at 64 times the batch, where You et al. have batches of 8,192; less in proportion to
# the batch. With trust_coefficient 0.001 a step adds 1% of a kernel's norm to its velocity.
LARS_RATE = 10.0


def get_config(dataset="digits"):
    config = small_data(base(dataset))
    config.experiment = "large_batch"
    preset = config.training.batch_size
    batch = BATCHES.get(short_name(dataset), 128)
    rate = config.optimizer.learning_rate * batch / preset
    warmup = round(config.training.num_epochs * 5 / 90, 2)
    config.training.batch_size = batch
    config.optimizer.learning_rate = rate
    first = f"batch {batch}"
    config.arms = {first: {}}
    of_linear = config.optimizer.bias_lr_multiplier * rate * 64 / LARS_RATE
    for factor in (8, 64):
        larger = {"training.batch_size": batch * factor}
        warm = larger | {"optimizer.warmup_epochs": warmup}
        config.arms[f"batch {batch * factor}"] = warm | {
            "optimizer.learning_rate": rate * factor
        }
        config.arms[f"batch {batch * factor} LARS"] = warm | {
            "optimizer.name": "lars",
            "optimizer.learning_rate": LARS_RATE * factor / 64,
            "optimizer.bias_lr_multiplier": of_linear,
        }
    config.claim = {
        "section": "5",
        "text": "(a question of ours, not a claim of the paper) The error grows with the batch",
        "metric": "top1_error",
        "compare": tuple((arm, first) for arm in config.arms if arm != first),
        "paper": None,
        "dataset": "imagenet2012",
    }
    config.seeds = 3
    return config
