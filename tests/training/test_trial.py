"""A trial's values are read from its settings once, and never again."""

import dataclasses
import json

from small_trial import opened, rows_of, tiny

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.training import loop
from alexnet_jax.training.trial import TrialSpec


def test_a_trial_that_is_open_is_not_changed_by_its_configuration(
    data, devices, tmp_path
):
    config = tiny()
    with opened([config], data, devices, [tmp_path], seeds=[0]) as (trials, context):
        config.training.log_every_epochs = config.training.num_epochs = 100.0
        config.optimizer.learning_rate = 0.5
        loop.train(trials, context)
    steps = [row["step"] for row in rows_of(tmp_path) if row["kind"] == "train"]
    assert steps == [4, 8, 10]
    assert {row["learning_rate"] for row in rows_of(tmp_path)[2:]} == {0.001}


def test_the_values_are_those_of_the_configuration(data):
    config = tiny(
        data__eval_crops="ten",
        optimizer__momentum=0.5,
        optimizer__schedule="plateau",
        training__gradient_accumulation=2,
        training__init_from="elsewhere",
        training__profile=(3, 5),
        training__warn_after_steps=7,
    )
    spec = TrialSpec.of(config, data)
    assert spec.steps.form.eval_crops == "ten"
    assert (spec.steps.num_classes, spec.steps.microbatches) == (10, 2)
    assert (spec.momentum, spec.schedule.spec.schedule) == (0.5, "plateau")
    assert (spec.init_from, spec.profile) == ("elsewhere", (3, 5))
    assert spec.diagnosis.warn_after_steps == 7
    assert spec.checkpoint_fields == fields_of(config)
    assert json.loads(json.dumps(spec.checkpoint_fields)) == spec.checkpoint_fields


def test_other_crops_and_microbatches_change_nothing_else(data):
    spec = TrialSpec.of(tiny(), data).steps
    ten = spec.with_crops("ten")
    assert ten.form == dataclasses.replace(spec.form, eval_crops="ten")
    assert ten.with_crops(spec.form.eval_crops) == spec
    assert spec.with_microbatches(4) == dataclasses.replace(spec, microbatches=4)
