"""Section 3.3: local response normalization lowers the errors by 1.4 and 1.2 points.

With and without. The 2012 code's own ablation, network 148, took out its second, unwritten
normalization within each map too, and gave the paper's numbers: so does this one.

On cifar10 four layers, as in the paper ("13% without, 11% with"), but not its network: that
is unnamed, and of the public ones nearest to those numbers (13pct and 11pct: 64 and 64
kernels, then two layers of unshared kernels) these configs have no such layers. Ours is
Figure 1's stand-in, the 19pct network, with the norm of 11pct (9 channels, 0.001 / 9, k 1),
behind the second pooling instead of before it, and with decay 0.004 on all weights, there on
the unshared and dense ones only. Nor are 13% and 11% a clean ablation, if those two are
meant: 11pct also has twice the kernels in its third layer and more decay in its last. So a
difference is to be looked for, and not those two errors.

On digits and fashion_mnist a narrow AlexNet on 64 pixels; `SMALL` in alexnet_jax/config.py
says why.

Run:    python -m alexnet_jax.main --config=configs/local_response_norm.py              (digits)
        python -m alexnet_jax.main --config=configs/local_response_norm.py:imagenet2012 (ImageNet)
        python -m alexnet_jax.main --config=configs/local_response_norm.py:cifar10      (CIFAR-10)
Expect: top-1 and top-5 error, without - with: 1.4 and 1.2 points in the paper; on CIFAR-10
        top-1 error, 2 points. Not run here on either; on digits see
        experiments/local_response_norm/README.md
"""

from alexnet_jax.config import base, narrow, short_name


def get_config(dataset="digits"):
    four_layer = short_name(dataset) == "cifar10"
    config = base(dataset, "four_layer") if four_layer else narrow(base(dataset))
    config.experiment = "local_response_norm"
    config.arms = {
        "with": {"model.normalization": "local_response"},
        "without": {"model.normalization": "none"},
    }
    if not four_layer:  # network 145's second norm goes too, as in 148
        config.arms["without"]["model.map_norm"] = False
    config.seeds = 3
    config.claim = {
        "section": "3.3",
        "text": "Response normalization lowers top-1 and top-5 errors by 1.4 and 1.2 points",
        "metric": "top1_error",
        "compare": ("without", "with"),
        "paper": 0.014,
        "also": ({"metric": "top5_error", "paper": 0.012},),
        "dataset": "imagenet2012",
    }
    if four_layer:
        config.claim |= {
            "text": "A four-layer network makes 13% errors without normalization, 11% with",
            "paper": 0.02,
            "dataset": "cifar10",
            "also": (),  # it names one error
        }
        config.training.num_epochs = 100.0
        config.training.record_every_epochs = 0.5
        config.optimizer.drop_epochs = (80.0, 90.0)
        config.optimizer.weight_decay = 0.004
        config.model.norm_depth = 9
        config.model.norm_alpha = 0.001 / 9
        config.model.norm_k = 1.0
        # Network 13pct and its like: flips and crops of 24 of 32 pixels.
        config.data.crop_size = 24
        config.data.random_crop = config.data.random_flip = True
    return config
