"""Classes are matched by their names."""

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import find, match

IMAGENET = tuple(f"n{number:08d} class {number}" for number in range(3000, 4000))


def test_order_case_and_separators_do_not_matter():
    found = match(["guinea_pig", "Cat"], ["cat", "dog", "guinea pig"], dataset="mine")
    assert found.index.tolist() == [2, 0]
    assert "2 of the network's 3 classes" in found.notes[0]


def test_wordnet_ids_count_and_their_words_do_not():
    found = match(["n00003001", "n00003000 other words"], IMAGENET[:2], dataset="mine")
    assert found.index.tolist() == [1, 0]
    assert found.notes == ()


def test_numbered_folders_are_imagenets_classes_in_order():
    """As ImageNetV2 has them; a loader sorts them as text: 0, 1, 10, 100, ..."""
    shuffled = tuple(np.random.default_rng(0).permutation(IMAGENET))
    names = sorted(map(str, range(1000)))
    found = match(names, shuffled, dataset="v2")
    assert [shuffled[k] for k in found.index] == [IMAGENET[int(name)] for name in names]
    assert "numbers" in found.notes[0]


@pytest.mark.parametrize(
    ("names", "known", "said"),
    [
        (["cat", "fish"], ["cat", "dog"], "'fish'"),
        (["0", "1"], ["cat", "dog"], "unknown"),  # never by position
        (["a_b", "a b"], ["a b", "c"], "several classes"),
        (["cat"], ["Cat", "cat"], "same name"),
    ],
)
def test_what_cannot_be_matched_is_refused(names, known, said):
    with pytest.raises(UserError, match=said):
        match(names, known, dataset="mine")


def test_one_name_is_found():
    assert find("GUINEA-PIG", ["cat", "guinea pig"]) == "guinea pig"
    assert find("holiday", ["cat"]) is None
