"""What the arms of an experiment have in common, and so what its trials share."""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.config.fields import EVALUATION_FIELDS


def answered_at(values: Mapping[str, Any], claim: Any) -> float | None:
    """The training error at which a trial has answered a claim and all of its `also`.

    None where it is to go on, or where one of them asks for more than the epochs to a
    training error. (The form of a claim is checked by `report.claims`.)
    """
    if not isinstance(claim, Mapping) or not values["training.stop_when_answered"]:
        return None
    also = claim.get("also", ())
    further = also if isinstance(also, (tuple, list)) else [also]
    if not all(isinstance(entry, Mapping) for entry in further):
        return None
    asked = [claim, *({**claim, **entry} for entry in further)]
    if any(one.get("metric") != "epochs_to_train_error" for one in asked):
        return None
    errors = [one.get("threshold") for one in asked]
    numbers = [error for error in errors if isinstance(error, (int, float))]
    return min(numbers) if len(numbers) == len(errors) else None


def num_seeds(values: Mapping[str, Any], changes: Mapping[str, Any]) -> int:
    """Seeds of an arm; of an arm of averages, the number of averages."""
    networks = value_in(values, changes, "training.ensemble")
    return max(1, values["seeds"] // max(1, networks))


def shared_training(
    values: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """For each arm the first one whose single networks are trained as its own are."""
    changed = {name for changes in arms.values() for name in changes}
    names = sorted(changed - set(EVALUATION_FIELDS))
    trained = {
        arm: [value_in(values, changes, name) for name in names]
        for arm, changes in arms.items()
    }
    single = [
        arm for arm in arms if value_in(values, arms[arm], "training.ensemble") == 1
    ]
    return {
        arm: next((other for other in single if trained[other] == trained[arm]), arm)
        for arm in arms
    }


def further_crops(
    values: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, str],
    arm: str,
) -> tuple[str, ...]:
    """The crops of the arms that share the training of `arm`, other than its own."""
    own = value_in(values, arms[arm], "data.eval_crops")
    crops = [
        value_in(values, arms[other], "data.eval_crops")
        for other in arms
        if training[other] == arm
        and value_in(values, arms[other], "training.ensemble") == 1
    ]
    return tuple(each for each in dict.fromkeys(crops) if each != own)


def value_in(values: Mapping[str, Any], changes: Mapping[str, Any], name: str) -> Any:
    return changes.get(name, values[name])


def without_prose(claim: Any) -> Any:
    """A claim, or the claims of its `also`, without the keys that people read only."""
    if isinstance(claim, Mapping):
        rest = {key: claim[key] for key in claim if key not in ("section", "text")}
        return {key: without_prose(value) for key, value in rest.items()}
    if isinstance(claim, (list, tuple)):
        return [without_prose(each) for each in claim]
    return claim
