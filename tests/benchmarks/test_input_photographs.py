"""The photographs that the input benchmarks read."""


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
