"""The fields of the section `model`: the network (sections 3 and 4.2)."""

from alexnet_jax.config.field_type import BY_RECIPE, ORDERS, Above, Field, Switches
from alexnet_jax.config.recipes import Value

# Values of model.normalization that normalize the features of every layer.
FEATURE_NORMS = ("batch", "layer", "group")

MODEL_FIELDS: dict[str, Field] = {
    "model.name": Field(
        "alexnet",
        "network: AlexNet of s. 3.5, that of Zeiler and Fergus (2013) with model.towers=1, or "
        "the four layers of Figure 1",
        ("alexnet", "zfnet", "four_layer"),
    ),
    "model.channels": Field(
        BY_RECIPE,
        "channels of conv1 to conv6, units of fc6 and fc7, s. 3.5; 0 omits a layer",
        minimum=0,
        maximum=1e6,
    ),
    "model.width": Field(
        1.0, "multiplies the channels of every layer", above=0, maximum=8
    ),
    "model.towers": Field(
        BY_RECIPE,
        "columns of the network, one per GPU in 2012, s. 3.2",
        minimum=1,
        maximum=2,
    ),
    "model.conv1_padding": Field(
        BY_RECIPE,
        "on which sides the input of conv1 is padded",
        ("both", "after", "none"),
    ),
    # Any name: building the network checks it against model/layers/activation.py.
    "model.activation": Field(BY_RECIPE, "nonlinearity, s. 3.1"),
    "model.layer1_order": Field(BY_RECIPE, "operations after conv1, s. 3.5", ORDERS),
    "model.layer2_order": Field(BY_RECIPE, "operations after conv2, s. 3.5", ORDERS),
    "model.normalization": Field(
        BY_RECIPE,
        "normalization across channels in layers 1 and 2, s. 3.3, or of the features of "
        "all layers but the last before their activation: batch (Ioffe and Szegedy, 2015), "
        "layer (Ba et al., 2016) or group (Wu and He, 2018)",
        ("local_response", "none", *FEATURE_NORMS),
        also=("batch_norm", "batchnorm", "layer_norm", "group_norm"),
    ),
    "model.norm_depth": Field(
        BY_RECIPE, "channels in the sum, n of s. 3.3", minimum=1, maximum=10_000
    ),
    "model.norm_k": Field(BY_RECIPE, "k of s. 3.3", above=0),
    "model.norm_alpha": Field(BY_RECIPE, "alpha of s. 3.3", minimum=0),
    "model.norm_beta": Field(BY_RECIPE, "beta of s. 3.3", minimum=0),
    "model.norm_across_towers": Field(
        BY_RECIPE, "whether the sum crosses from one tower to the other"
    ),
    "model.within_channel_norm": Field(
        BY_RECIPE, "a second normalization in layer 2, within each channel"
    ),
    "model.within_channel_norm_size": Field(
        BY_RECIPE, "side of the window of that normalization, pixels", minimum=1
    ),
    "model.within_channel_norm_k": Field(
        BY_RECIPE, "additive constant of that normalization", above=0
    ),
    "model.within_channel_norm_alpha": Field(
        BY_RECIPE, "factor of the sum of squares of that normalization", minimum=0
    ),
    "model.within_channel_norm_beta": Field(
        BY_RECIPE, "exponent of that normalization", minimum=0
    ),
    "model.pool_window": Field(
        BY_RECIPE, "side of a pooling window, pixels, z of s. 3.4", minimum=1
    ),
    "model.pool_stride": Field(
        BY_RECIPE, "stride of pooling, pixels, s of s. 3.4", minimum=1
    ),
    "model.pool_rounding": Field(
        BY_RECIPE,
        "rounding of the pooled size; up: the last window may overhang",
        ("up", "down"),
    ),
    "model.pool_ties": Field(
        BY_RECIPE,
        "which of several equal maxima receive the gradient",
        ("first", "all"),
    ),
    "model.dropout_rate": Field(
        BY_RECIPE,
        "fraction of units dropped, s. 4.2",
        minimum=0,
        maximum=0.99,
        also=("dropout",),
    ),
    "model.dropout_form": Field(
        BY_RECIPE,
        "mask: scaled in evaluation, s. 4.2; inverted: scaled in training",
        ("mask", "inverted"),
    ),
    "model.dropout_place": Field(
        BY_RECIPE, "dropout before or after fc6 and fc7, s. 4.2", ("before", "after")
    ),
    "model.initialization": Field(
        BY_RECIPE,
        "distribution of the initial weights: normal as in s. 5, or one that their number "
        "and that of the inputs sets: he (He et al., 2015), xavier (Glorot and Bengio, "
        "2010) or orthogonal (Saxe et al., 2014)",
        ("normal", "fan_in", "he", "xavier", "orthogonal"),
    ),
    "model.weight_stds": Field(
        BY_RECIPE,
        "standard deviation of each layer's initial weights, conv1 to fc8, s. 5",
        minimum=0,
        maximum=1e6,
    ),
    "model.biases": Field(
        BY_RECIPE, "initial biases of each layer, s. 5", minimum=-1e6, maximum=1e6
    ),
    "model.dtype": Field(
        "float32",
        "dtype of the computation; parameters are float32",
        ("float32", "bfloat16"),
    ),
}

# Fields of local response normalization, and of that within channels.
_LOCAL_FIELDS = (
    "model.norm_depth",
    "model.norm_k",
    "model.norm_alpha",
    "model.norm_beta",
    "model.norm_across_towers",
)
_WITHIN_FIELDS = (
    "model.within_channel_norm",
    "model.within_channel_norm_size",
    "model.within_channel_norm_k",
    "model.within_channel_norm_alpha",
    "model.within_channel_norm_beta",
)

# Fields that only the initialization "normal" reads.
_NORMAL_FIELDS = ("model.weight_stds", "model.biases")

MODEL_SWITCHES: Switches = (
    (
        {"model.name": "four_layer"},
        (
            "model.towers",
            "model.conv1_padding",
            "model.layer1_order",
            "model.layer2_order",
            "model.within_channel_norm",
            "model.dropout_place",
        ),
    ),
    ({"model.name": "zfnet"}, ("model.conv1_padding",)),
    ({"model.normalization": "none"}, _LOCAL_FIELDS),
    *(
        (
            dict[str, Value | Above]({"model.normalization": name}),
            _LOCAL_FIELDS + _WITHIN_FIELDS,
        )
        for name in FEATURE_NORMS
    ),
    ({"model.towers": 1}, ("model.norm_across_towers",)),
    ({"model.within_channel_norm": False}, _WITHIN_FIELDS[1:]),
    ({"model.dropout_rate": 0.0}, ("model.dropout_form", "model.dropout_place")),
    ({"model.initialization": "fan_in"}, _NORMAL_FIELDS),
    ({"model.initialization": "he"}, _NORMAL_FIELDS),
    ({"model.initialization": "xavier"}, _NORMAL_FIELDS),
    ({"model.initialization": "orthogonal"}, _NORMAL_FIELDS),
)
