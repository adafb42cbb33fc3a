"""What to say about a field or a flag that does not exist."""

import difflib
import re

from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.old_names import RENAMED

# Common names of what is done here in another way, by the last part of the name. Other
# names of fields are in their `Field.also`.
ELSEWHERE = {
    "seed": "Seeds are 0, 1, ...: 'seeds' is their number.",
    "dataset": "The dataset follows the config file: --config=FILE:DATASET.",
    "data_dir": "Images in folders are --config=FILE:folder=PATH; TFDS has 'data.tfds_dir'.",
    "output_dir": "The run folder is --workdir=DIR.",
    "log_dir": "The run folder is --workdir=DIR.",
    "workdir": "The run folder is --workdir=DIR.",
    "metric": "It is a key of the claim: config.claim = {'metric': 'top1_error'}.",
    "compare": "It is a key of the claim: config.claim = {'compare': ('a', 'b')}.",
    "resume": "The same command resumes an interrupted run.",
    "gpus": "All devices are used; CUDA_VISIBLE_DEVICES restricts them.",
    "devices": "All devices are used; CUDA_VISIBLE_DEVICES restricts them.",
    "workers": "Images are decoded on all CPU cores.",
    "num_workers": "Images are decoded on all CPU cores.",
    "fp16": "The field is 'model.dtype', and its values float32 and bfloat16.",
    "amp": "The field is 'model.dtype', and its values float32 and bfloat16.",
    "precision": "The field is 'model.dtype', and its values float32 and bfloat16.",
    "pretrained": "The field is 'training.init_from', a trial folder or checkpoint.",
    "freeze": "The field is 'optimizer.frozen_layers', the number of first layers.",
    "layer_lr": "The field is 'optimizer.layer_lr_multipliers': conv1-conv5=0.1,last=10.",
}

# What a config file sets beside the fields.
IN_FILE = ("arms", "tuned", "claim")

# What a field accepts, by the name of its type, as a config file writes it.
ACCEPTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "text",
    "tuple": "a tuple of numbers, like (1, 2)",
    "dict": "a dictionary",
    "LayeredConfig": "a section, whose fields are set one by one",
}
_WRONG_TYPE = re.compile(
    r"Could not override field '(\w+)' \(.*?\)\. (.*) is of original type "
    r"<class '(?:\w+\.)*(\w+)'> and cannot be casted to type <class '(?:\w+\.)*(\w+)'>",
    re.DOTALL,
)

ALSO = {name: field for field, facts in FIELDS.items() for name in facts.also}

# Ideas that have no field, by words in the last part of the name.
NOT_OFFERED = {
    "nesterov": "Nesterov momentum",
    "early_stopping": "Early stopping",
    "patience": "Early stopping",
}


def hint(name: str) -> str:
    """Returns a sentence about a field that does not exist, with a leading space.

    It names what the field is called, that its idea is not offered, or a field whose name
    is spelled almost like it; "" if there is none of these.

    Args:
      name: the dotted name of a field, or a flag's name without dashes.
    """
    if name in IN_FILE:
        return f" The config file sets '{name}'."
    if name in RENAMED:
        return f" It is called '{RENAMED[name]}' now."
    last = name.rpartition(".")[2].lower()
    if last in ELSEWHERE:
        return f" {ELSEWHERE[last]}"
    if last in ALSO:
        return f" The field is '{ALSO[last]}'."
    if any(field.startswith(f"{name}.") for field in FIELDS):
        return f" It is a section: give one of its fields, '{name}.FIELD'."
    for idea, called in NOT_OFFERED.items():
        if _speaks_of(idea, last):
            return f" {called} is not offered."
    if near := _nearest_field(name, last):
        return near
    for idea, field in ALSO.items():
        if _speaks_of(idea, last):
            return f" Did you mean '{field}'?"
    return ""


def _speaks_of(idea: str, name: str) -> bool:
    """Whether a name has the word, or contains one of some length."""
    return f"_{idea}_" in f"_{name}_" or (len(idea) > 4 and idea in name)


def assignment_problem(text: str) -> str:
    """What is wrong about an assignment to a configuration, in the terms of its fields.

    Args:
      text: what ml_collections says; it would print the whole configuration, or types.

    Returns:
      "" if it says something else.
    """
    unknown = re.search(r'"(\w+)" does not exist', text)
    if unknown and "Other fields present" in text:
        return f"no such field: {unknown[1]}.{hint(unknown[1])}"
    wrong = _WRONG_TYPE.fullmatch(text)
    if wrong and wrong[4] in ACCEPTED:
        return f"{wrong[1]} = {wrong[2]} ({wrong[3]}): it takes {ACCEPTED[wrong[4]]}."
    return ""


def _nearest_field(name: str, last: str) -> str:
    """Whole names are compared, and then last parts, as a section is often forgotten."""
    of_last = {field.rpartition(".")[2]: field for field in FIELDS}
    if last in of_last:
        return f" Did you mean '{of_last[last]}'?"
    near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    near += [
        of_last[each] for each in difflib.get_close_matches(last, of_last, cutoff=0.75)
    ]
    return f" Did you mean '{near[0]}'?" if near else ""
