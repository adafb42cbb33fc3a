"""The fields of the section `optimizer`: the update rule and its rate (section 5)."""

from alexnet_jax.config.field_type import BY_RECIPE, SCHEDULES, Field, Switches

# Fields that only one schedule of the learning rate reads.
_STEPS_FIELDS = (
    "optimizer.drop_epochs",
    "optimizer.conv1_drop_epochs",
    "optimizer.conv1_stop_epoch",
)
_PLATEAU_FIELDS = ("optimizer.plateau_epochs", "optimizer.plateau_drops")

OPTIMIZER_FIELDS: dict[str, Field] = {
    "optimizer.name": Field(
        "sgd",
        "update rule: that of s. 5, AdamW (Loshchilov and Hutter, 2019), or for large batches "
        "LAMB (You et al., 2020) or LARS (You et al., 2017)",
        ("sgd", "adamw", "lamb", "lars"),
        later=True,
        also=("optimizer",),
    ),
    "optimizer.learning_rate": Field(
        BY_RECIPE,
        "initial learning rate, s. 5",
        above=0,
        also=("lr",),
    ),
    "optimizer.schedule": Field(
        BY_RECIPE,
        "when the rate falls, s. 5: at drop_epochs, at plateaus, never, along a cosine "
        "(Loshchilov and Hutter, 2017)",
        SCHEDULES,
    ),
    "optimizer.warmup_epochs": Field(
        0.0,
        "epochs in which the rate rises in proportion to the step, up to the schedule's "
        "(Goyal et al., 2017)",
        minimum=0,
        later=True,
        also=("warmup", "warm_up"),
    ),
    "optimizer.drop_epochs": Field(
        BY_RECIPE, "epochs at which the rate falls, s. 5", above=0
    ),
    "optimizer.plateau_epochs": Field(
        BY_RECIPE,
        "epochs without a lower validation error until the rate falls",
        above=0,
    ),
    "optimizer.plateau_drops": Field(
        BY_RECIPE, "how often the rate falls at plateaus, s. 5", minimum=1
    ),
    "optimizer.drop_factor": Field(
        BY_RECIPE, "factor of the rate at each fall, s. 5", above=0, maximum=1
    ),
    "optimizer.bias_lr_multiplier": Field(
        BY_RECIPE, "learning rate of biases relative to that of weights", minimum=0
    ),
    "optimizer.bias_drops": Field(
        BY_RECIPE, "whether the learning rate of biases falls too"
    ),
    "optimizer.conv1_drop_epochs": Field(
        BY_RECIPE,
        "epochs at which the rate of conv1's weights falls once more",
        above=0,
    ),
    "optimizer.conv1_stop_epoch": Field(
        BY_RECIPE, "epoch from which conv1 is frozen; 0: never", minimum=0
    ),
    "optimizer.layer_lr_multipliers": Field(
        "",
        "factors of layers' rates: conv1-conv5=0.01,others=0.1,last=1; 0: frozen",
    ),
    "optimizer.frozen_layers": Field(
        0, "first layers that keep their initial weights; 5: conv1 to conv5", minimum=0
    ),
    "optimizer.momentum": Field(BY_RECIPE, "momentum, s. 5", minimum=0, maximum=0.9999),
    "optimizer.lr_inside_momentum": Field(
        BY_RECIPE, "whether the velocity holds the learning rate, s. 5"
    ),
    "optimizer.decoupled_decay": Field(
        False,
        "whether SGD decays weights beside the velocity, not through it (Loshchilov and "
        "Hutter, 2019)",
        later=True,
    ),
    "optimizer.clip_norm": Field(
        0.0,
        "largest norm of the gradient, which is scaled down to it (Pascanu et al., 2013); "
        "0: none",
        minimum=0,
        later=True,
        also=("clip", "clipping", "clipnorm"),
    ),
    "optimizer.ema_decay": Field(
        0.0,
        "what an average of the parameters keeps of itself in a step; it is what is "
        "evaluated and saved (Polyak and Juditsky, 1992); 0: none",
        minimum=0,
        maximum=0.999999,
        later=True,
        also=("ema", "polyak"),
    ),
    "optimizer.beta1": Field(
        0.9,
        "decay of the mean gradient in AdamW and LAMB (Kingma and Ba, 2015)",
        minimum=0,
        maximum=0.9999,
        later=True,
    ),
    "optimizer.beta2": Field(
        0.999,
        "decay of the mean of its square in AdamW and LAMB (Kingma and Ba, 2015)",
        minimum=0,
        maximum=0.999999,
        later=True,
    ),
    "optimizer.epsilon": Field(
        1e-8,
        "what AdamW and LAMB add to the root of the mean square (Kingma and Ba, 2015)",
        above=0,
        later=True,
        also=("eps",),
    ),
    "optimizer.trust_coefficient": Field(
        0.001,
        "share of the norm of a layer's weights that a step of LARS at rate 1 moves them by "
        "(You et al., 2017)",
        above=0,
        later=True,
    ),
    "optimizer.weight_decay": Field(
        BY_RECIPE, "weight decay, s. 5", minimum=0, also=("wd",)
    ),
    "optimizer.bias_decay": Field(
        BY_RECIPE, "whether weight decay applies to biases too"
    ),
}

_MOMENTUM = "optimizer.momentum"
_SGD_FIELDS = ("optimizer.lr_inside_momentum", "optimizer.decoupled_decay")
_LARS_FIELD = "optimizer.trust_coefficient"
_ADAM_FIELDS = ("optimizer.beta1", "optimizer.beta2", "optimizer.epsilon")

OPTIMIZER_SWITCHES: Switches = (
    ({"optimizer.name": "sgd"}, (*_ADAM_FIELDS, _LARS_FIELD)),
    ({"optimizer.name": "adamw"}, (*_SGD_FIELDS, _MOMENTUM, _LARS_FIELD)),
    ({"optimizer.name": "lamb"}, (*_SGD_FIELDS, _MOMENTUM, _LARS_FIELD)),
    ({"optimizer.name": "lars"}, (*_ADAM_FIELDS, *_SGD_FIELDS)),
    ({"optimizer.schedule": "steps"}, _PLATEAU_FIELDS),
    ({"optimizer.schedule": "plateau"}, _STEPS_FIELDS),
    (
        {"optimizer.schedule": "cosine"},
        (*_STEPS_FIELDS, *_PLATEAU_FIELDS, "optimizer.drop_factor"),
    ),
    (
        {"optimizer.schedule": "constant"},
        (
            *_STEPS_FIELDS,
            *_PLATEAU_FIELDS,
            "optimizer.drop_factor",
            "optimizer.bias_drops",
        ),
    ),
    (
        {"optimizer.schedule": "steps", "optimizer.drop_epochs": ()},
        ("optimizer.bias_drops",),
    ),
    (
        {
            "optimizer.schedule": "steps",
            "optimizer.drop_epochs": (),
            "optimizer.conv1_drop_epochs": (),
        },
        ("optimizer.drop_factor",),
    ),
    (
        {"optimizer.bias_lr_multiplier": 0.0},
        ("optimizer.bias_drops", "optimizer.bias_decay"),
    ),
)
