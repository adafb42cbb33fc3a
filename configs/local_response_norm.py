"""Section 3.3: local response normalization lowers the errors by 1.4 and 1.2 points.

With and without. The 2012 code's own ablation, network 148, also removed its undocumented
within-channel normalization and gave the paper's numbers, and so does this one.

On cifar10 the network has four layers, as in the paper ("13% without, 11% with"), but it is
not the paper's, which is not named. Of the public networks, those nearest to these numbers
are 13pct and 11pct: 64 and 64 kernels, then two layers with unshared kernels, a kind of layer
that this code does not have. The network here is the stand-in of Figure 1, 19pct, with the
normalization of 11pct (9 channels, 0.001 / 9, k 1) after the second pooling instead of before
it, and with weight decay 0.004 on all weights, which 13pct has on its unshared and dense ones
only. Nor would 13pct and 11pct be a clean ablation: 11pct also has twice as many kernels in
its third layer and more weight decay in its last. Expect a difference, then, and not those
two errors.

On digits and fashion_mnist it trains the small-data preset, a narrower AlexNet on 64x64
pixels; alexnet_jax/config/presets.py explains the choice.

Run:    python -m alexnet_jax.main --config=configs/local_response_norm.py              (digits)
        python -m alexnet_jax.main --config=configs/local_response_norm.py:imagenet2012 (ImageNet)
        python -m alexnet_jax.main --config=configs/local_response_norm.py:cifar10      (CIFAR-10)
Expect: top-1 and top-5 error, without - with: 1.4 and 1.2 points in the paper; on CIFAR-10
        top-1 error, 2 points. Not run here on ImageNet; on CIFAR-10 20 of the 100 epochs:
        experiments/local_response_norm/cifar10/README.md; for digits see
        experiments/local_response_norm/README.md
"""

from alexnet_jax.config import base, short_name, small_data


def get_config(dataset="digits"):
    four_layer = short_name(dataset) == "cifar10"
    config = base(dataset, "four_layer") if four_layer else small_data(base(dataset))
    config.experiment = "local_response_norm"
    config.arms = {
        "with": {"model.normalization": "local_response"},
        "without": {"model.normalization": "none"},
    }
    if not four_layer:  # As in network 148, the second norm goes too.
        config.arms["without"]["model.within_channel_norm"] = False
    config.seeds = 3
    config.claim = {
        "section": "3.3",
        "text": "Local response normalization lowers top-1 and top-5 errors by 1.4 and 1.2 points",
        "metric": "top1_error",
        "compare": ("without", "with"),
        "paper": 0.014,
        "also": ({"metric": "top5_error", "paper": 0.012},),
        "dataset": "imagenet2012",
    }
    if four_layer:
        config.claim |= {
            "text": "A four-layer network has 13% error without normalization and 11% with it",
            "paper": 0.02,
            "dataset": "cifar10",
            "also": (),  # The paper gives one error only.
        }
        config.training.num_epochs = 100.0
        config.training.log_every_epochs = 0.5
        config.optimizer.drop_epochs = (80.0, 90.0)
        config.optimizer.weight_decay = 0.004
        config.model.norm_depth = 9
        config.model.norm_alpha = 0.001 / 9
        config.model.norm_k = 1.0
        # As network 13pct and its kin: flips, and crops of 24 of the 32 pixels.
        config.data.crop_size = 24
        config.data.random_crop = config.data.random_flip = True
    return config
