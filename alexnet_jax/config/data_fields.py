"""The fields of the section `data`: what is trained on (sections 2 and 4.1)."""

from alexnet_jax.config.field_type import BY_RECIPE, Above, Field, Switches

DATA_FIELDS: dict[str, Field] = {
    "data.dataset": Field(
        "digits", "digits, a TFDS name, tfds=NAME, folder=PATH or npz=FILE"
    ),
    "data.tfds_dir": Field("", "data folder of TFDS; empty: the default of TFDS"),
    "data.prepared_dir": Field(
        "",
        "prepared dataset; empty: prepared/<dataset>-<size>; none: the original images",
    ),
    "data.rescale": Field(
        BY_RECIPE,
        "shorter side and central square, s. 2, or the whole image warped to a square",
        ("shorter_side", "warp"),
    ),
    "data.rescale_size": Field(
        BY_RECIPE, "side of the square, pixels, s. 2", minimum=1
    ),
    "data.crop_size": Field(BY_RECIPE, "side of a crop, pixels, s. 4.1", minimum=1),
    "data.random_crop": Field(
        BY_RECIPE, "crop at random positions, s. 4.1; off: the center"
    ),
    "data.random_resized_crop": Field(
        0.0,
        "least share of an image's area that a crop of any size and of an aspect of 3/4 to "
        "4/3 has, which is resized to crop_size, in place of random_crop (Szegedy et al., "
        "2015); 0: off",
        minimum=0,
        maximum=1,
        later=True,
        also=("rrc",),
    ),
    "data.random_flip": Field(BY_RECIPE, "reflect images at random, s. 4.1"),
    "data.crop_sharing": Field(
        BY_RECIPE, "consecutive images that share one crop and reflection", minimum=1
    ),
    "data.mean": Field(
        BY_RECIPE, "which mean is subtracted, s. 2", ("image", "center", "channel")
    ),
    "data.channel_mean": Field(
        BY_RECIPE,
        "mean of R, G, B in gray levels; (): that of the training set",
        minimum=0,
        maximum=255,
    ),
    "data.channel_scale": Field(
        BY_RECIPE,
        "divisors of R, G, B after the mean is subtracted, gray levels",
        above=0,
    ),
    "data.channel_order": Field(
        BY_RECIPE, "order of the channels of the network's input", ("rgb", "bgr")
    ),
    "data.lighting_std": Field(
        BY_RECIPE,
        "standard deviation of alpha, PCA color augmentation of s. 4.1; 0: off",
        minimum=0,
    ),
    "data.lighting_scale": Field(
        BY_RECIPE, "what alpha multiplies, s. 4.1", ("eigenvalue", "standard_deviation")
    ),
    "data.lighting_shrink": Field(
        BY_RECIPE, "whether shifted images are divided by 1 + lighting_std"
    ),
    "data.lighting_off_epoch": Field(
        BY_RECIPE, "epoch at which PCA color augmentation ends; 0: never", minimum=0
    ),
    "data.randaugment": Field(
        0,
        "operations of RandAugment on each training image, such as rotations (Cubuk et al., "
        "2020); 0: off",
        minimum=0,
        maximum=10,
        later=True,
        also=("rand_augment", "autoaugment"),
    ),
    "data.randaugment_magnitude": Field(
        9.0,
        "strength of these operations, of 30 (Cubuk et al., 2020)",
        minimum=0,
        maximum=30,
        later=True,
    ),
    "data.mixup": Field(
        0.0,
        "parameter alpha of mixup: the mean of each image with another, labels too (Zhang et "
        "al., 2018); 0: off",
        minimum=0,
        maximum=100,
        later=True,
    ),
    "data.cutmix": Field(
        0.0,
        "parameter alpha of CutMix: a box of each image is another's, labels by area (Yun et "
        "al., 2019); 0: off",
        minimum=0,
        maximum=100,
        later=True,
    ),
    "data.eval_crops": Field(
        BY_RECIPE,
        "crops of a test image, s. 4.1: probabilities are averaged",
        ("ten", "center"),
    ),
}

DATA_SWITCHES: Switches = (
    ({"data.mean": "image"}, ("data.channel_mean",)),
    ({"data.mean": "center"}, ("data.channel_mean",)),
    (
        {"data.lighting_std": 0.0},
        ("data.lighting_scale", "data.lighting_shrink", "data.lighting_off_epoch"),
    ),
    ({"data.random_resized_crop": Above(0.0)}, ("data.random_crop",)),
    (
        {"data.random_resized_crop": Above(0.0), "data.random_flip": False},
        ("data.crop_sharing",),
    ),
    ({"data.randaugment": 0}, ("data.randaugment_magnitude",)),
    ({"data.random_crop": False, "data.random_flip": False}, ("data.crop_sharing",)),
)
