"""Classes are matched by their names."""

import numpy as np
import pytest

from alexnet_jax.errors import UserError
from alexnet_jax.trained.class_names import find, match, of_folder

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


def test_a_folder_with_a_number_is_a_class_where_all_of_them_are(tmp_path):
    """As in ImageNetV2; one folder called "2" of one's own names nothing."""
    shuffled = tuple(np.random.default_rng(0).permutation(IMAGENET))
    for number in range(999):
        (tmp_path / "v2" / str(number)).mkdir(parents=True)
    (tmp_path / "almost").symlink_to(tmp_path / "v2")
    assert of_folder(tmp_path / "almost/2", shuffled) is None
    (tmp_path / "v2/999").mkdir()
    assert of_folder(tmp_path / "v2/2", shuffled) == IMAGENET[2]
    assert of_folder(tmp_path / "v2/999", shuffled) == IMAGENET[999]
    assert of_folder(tmp_path / "v2/1000", shuffled) is None
    (tmp_path / "mine/2").mkdir(parents=True)
    assert of_folder(tmp_path / "mine/2", shuffled) is None
    assert of_folder(tmp_path / "mine/2", ["1", "2"]) == "2"
    assert of_folder(tmp_path / IMAGENET[7][:9], shuffled) == IMAGENET[7]
