"""The fields that a checkpoint holds, and how those of older versions compare."""

import json

from small_question import question

from alexnet_jax.config.checkpoint_fields import differing_fields, fields_of
from alexnet_jax.config.fields import FIELDS, OPERATIONAL_FIELDS, default_of
from alexnet_jax.config.old_names import RENAMED
from alexnet_jax.config.resolve import resolve


def fields():
    return fields_of(resolve(question(), {}).trials[0].settings)


def test_a_checkpoint_holds_the_fields_on_which_the_result_depends():
    assert fields().keys() == FIELDS.keys() - {
        *OPERATIONAL_FIELDS,
        "experiment",
        "seeds",
        "tuning_seeds",
        "tuning_epochs",
    }
    assert json.loads(json.dumps(fields())) == fields()


def test_equal_fields_do_not_differ():
    assert differing_fields(fields(), fields()) == {}


def test_older_names_and_missing_fields_count_as_they_were():
    old_names = {new: old for old, new in RENAMED.items()}
    held = {old_names.get(name, name): value for name, value in fields().items()}
    del held["data.lighting_deviation"]
    now = fields() | {"data.lighting_std": 0.75, "data.eval_crops": "none"}
    assert differing_fields(held, now) == {
        "data.eval_crops": (fields()["data.eval_crops"], "none"),
        "data.lighting_std": (default_of("data.lighting_std", now["recipe"]), 0.75),
    }


def test_a_field_of_a_later_version_differs():
    held = fields() | {"model.wings": [1, 2]}
    assert differing_fields(held, fields()) == {"model.wings": ([1, 2], "absent")}


def test_a_checkpoint_without_fields_belongs_to_any_trial_without_fields():
    assert differing_fields({}, {}) == {}
