"""The photographs that the input benchmarks read."""

from pathlib import Path

import pytest

from benchmarks.input_photographs import photographs


def test_the_same_photographs_come_in_three_forms(few_photographs):
    originals, jpeg, raw = (
        few_photographs.originals.train,
        few_photographs.jpeg.train,
        few_photographs.raw.train,
    )
    assert [split.encoding for split in (originals, jpeg, raw)] == [
        "original",
        "jpeg",
        "raw",
    ]
    num_examples = len(few_photographs.paths)
    assert num_examples == 11
    for split in (originals, jpeg, raw):
        assert split.num_examples == num_examples
    assert len({originals.read(i) for i in range(num_examples)}) == num_examples
    assert "china, flower" in few_photographs.note


def test_a_folder_of_ones_own_is_only_read(few_photographs, tmp_path):
    for number, path in enumerate(few_photographs.paths):
        copy = tmp_path / f"train/{'ab'[number % 2]}/{number}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(Path(path).read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with photographs(images=str(tmp_path)) as made:
        assert made.note.startswith(
            f"{made.jpeg.train.num_examples} images of a folder"
        )
        assert {Path(path).parents[1] for path in made.paths} == {tmp_path / "train"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="Error: "), photographs(images=str(tmp_path)):
        pass
