"""The fields of the section `training`: how long, and what is recorded (section 5)."""

from alexnet_jax.config.field_type import BY_RECIPE, Field

TRAINING_FIELDS: dict[str, Field] = {
    "training.batch_size": Field(
        BY_RECIPE, "images per step, over all devices, s. 5", minimum=1, also=("bs",)
    ),
    "training.num_epochs": Field(
        BY_RECIPE,
        "passes over the training set, s. 5",
        above=0,
        also=("epoch", "epochs", "max_epochs"),
    ),
    "training.label_smoothing": Field(
        0.0,
        "share of the label that is spread evenly over all classes, in training only "
        "(Szegedy et al., 2016)",
        minimum=0,
        maximum=0.9,
        later=True,
        also=("smoothing",),
    ),
    "training.log_every_epochs": Field(
        0.01, "epochs between training records, which are means over them", above=0
    ),
    "training.evaluate_every_epochs": Field(1.0, "epochs between evaluations", above=0),
    "training.evaluate_at_start": Field(
        False, "whether to evaluate before the first step too"
    ),
    "training.stop_when_answered": Field(
        True,
        "whether a trial ends once it has reached the training error that the experiment "
        "asks about",
    ),
    "training.gradient_accumulation": Field(
        1, "microbatches, one after another, of a device's share of a batch", minimum=1
    ),
    "training.init_from": Field(
        "",
        "run, trial, checkpoint or exported file: initial weights of all but the last layer",
    ),
    "training.ensemble": Field(
        1, "networks, of consecutive seeds, whose probabilities are averaged", minimum=1
    ),
    "training.checkpoint_every_epochs": Field(
        1.0,
        "epochs between checkpoints; 0: only at the end of a stopped run or by SIGUSR1",
        minimum=0,
    ),
    "training.profile": Field(
        (), "first and last step that jax.profiler records, into profile/", minimum=1
    ),
    "training.warn_below_spread": Field(
        0.0003,
        "least spread of initial logits between images: training/diagnosis.py",
        minimum=0,
    ),
    "training.warn_after_steps": Field(
        2000,
        "steps after which a loss that is not below ln(classes) is a warning",
        minimum=1,
    ),
    "training.tensorboard": Field(False, "whether to write TensorBoard files too"),
}
