"""How the input benchmarks measure: what a turn counts, and ratios within a turn."""

import numpy as np
import pytest

from benchmarks import input_benchmarks


def test_a_long_epoch_repeats_few_images(few_photographs):
    split = few_photographs.jpeg.train
    repeated = input_benchmarks.repeat_split(split, 1000)
    assert len(repeated) == 1000
    assert repeated.read(split.num_examples + 3) == split.read(3)


def test_a_turn_counts_what_follows_the_first_batch_and_closes_the_pipeline():
    closed = []

    def batches():
        try:
            while True:
                yield np.zeros((4, 1))
        finally:
            closed.append(True)

    ticks = iter(range(100))
    throughput = input_benchmarks.images_per_second(
        batches, 10.0, lambda: float(next(ticks))
    )
    assert throughput == pytest.approx(4.0, rel=0.1)
    assert closed


def test_ratios_are_medians_of_ours_over_the_others_within_a_repeat(monkeypatch):
    throughputs = iter([40.0, 10.0, 90.0, 30.0, 10.0, 5.0])
    monkeypatch.setattr(
        input_benchmarks, "images_per_second", lambda *_, **__: next(throughputs)
    )
    pipelines = {"ours, originals": list, "plain": list}
    ours, plain = input_benchmarks.time_in_turns(pipelines, 3, float)
    assert (ours["images_per_second"], plain["images_per_second"]) == (40.0, 10.0)
    assert ours["ratios"] == {"plain": 3.0}
    assert plain["ratios"] == {}
