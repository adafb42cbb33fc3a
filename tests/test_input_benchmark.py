"""The benchmark of the input: its forms agree, its tables say what they should."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import benchmark, input_contenders

COUNT = 12  # photographs; so every picture gives some


@pytest.fixture(scope="module")
def made():
    with input_contenders.photographs(COUNT) as found:
        yield found
    assert not Path(found.paths[0]).exists()


def test_photographs_come_in_three_forms(made):
    for source in (made.originals, made.jpeg, made.raw):
        assert source.train.num_examples == len(made.paths) == COUNT - 1
    forms = [s.train.form for s in (made.originals, made.jpeg, made.raw)]
    assert forms == ["encoded", "jpeg", "raw"]
    assert f"{COUNT} parts of china, flower" in made.note
    assert len({made.originals.train.read(i) for i in range(COUNT - 1)}) == COUNT - 1


def test_each_form_gives_full_batches_of_its_type(made):
    forms = input_contenders.make_forms(made, 5, None)
    assert {"ours, originals", "ours, JPEG cache", "ours, raw"} < set(forms)
    for name, open_form in forms.items():
        with contextlib.closing(open_form()) as batches:
            for _ in range(4):  # over the end of an epoch
                images = next(batches)
                assert images.shape == (5, 224, 224, 3)
        whole = name.startswith(("ours", "grain"))
        assert images.dtype == (np.uint8 if whole else np.float32)
        mean = images.mean() if whole else images.mean() * 57 + 116
        assert 60 < mean < 180, name  # they are photographs


def test_pillows_processes_make_the_same_images_as_one(made):
    workers = input_contenders.Workers(1, 3)
    with contextlib.closing(workers):
        for _ in range(2):  # turns
            with contextlib.closing(workers.images(made.paths)) as batches:
                for of_batch, seed in zip(
                    input_contenders.orders(made.paths, 3), range(3), strict=False
                ):
                    draws = np.random.default_rng(seed)
                    expected = [
                        input_contenders.pillow_image(path, draws) for path in of_batch
                    ]
                    np.testing.assert_array_equal(next(batches), expected)


def test_a_long_epoch_is_made_of_few_images(made):
    split = input_contenders.repeated(made.jpeg.train, 1000)
    assert len(split) == 1000
    assert split.read(COUNT - 1 + 3) == made.jpeg.train.read(3)


def test_a_turn_counts_what_comes_behind_the_first_batch():
    closed = []

    def batches():
        try:
            while True:
                yield np.zeros((4, 1))
        finally:
            closed.append(True)

    ticks = iter(range(100))
    rate = input_contenders.images_per_second(batches, 10.0, lambda: float(next(ticks)))
    assert rate == pytest.approx(4.0, rel=0.1)
    assert closed


def test_ratios_are_medians_within_a_turn(monkeypatch):
    rates = iter([40.0, 10.0, 90.0, 30.0, 10.0, 5.0])
    monkeypatch.setattr(
        input_contenders, "images_per_second", lambda *_, **__: next(rates)
    )
    forms = {"ours, originals": list, "plain": list}
    ours, plain = input_contenders.turns(forms, 3, float)
    assert (ours["images_per_second"], plain["images_per_second"]) == (40.0, 10.0)
    assert ours["ratios"] == {"plain": 3.0}
    assert plain["ratios"] == {}


# --- The tables -------------------------------------------------------------------


CONDITIONS = {
    "command": "python -m alexnet_jax.benchmark",
    "date": "2026-01-01",
    "platform": "cpu",
    "devices": ["cpu"],
    "versions": {"tensorflow-cpu": "0", "grain": "0"},
    "cpu": "a CPU",
    "num_cores": 2,
    "memory_gb": 4.0,
    "photographs": "66 parts",
}


def input_report(**changes):
    def row(name, cores, rate, **ratios):
        bars = input_contenders.BARS.get(name, {})
        return {
            "name": name,
            "cores": cores,
            "images_per_second": rate,
            "ratios": ratios,
            "bars": bars,
        }

    return {
        **CONDITIONS,
        "batch_size": 128,
        "first_batch_seconds": {"start": 0.25, "middle": 0.5},
        "memory_mb": {"first": 900.0, "last": 890.0, "most": 910.0},
        "rows": [
            row("ours, originals", "core", 100.0, plain=1.4, Pillow=1.5),
            row("plain", "core", 71.0),
            row("ours, originals", "all", 180.0, plain=1.5, Pillow=2.5),
            row("plain", "all", 120.0),
        ],
    } | changes


def test_the_inputs_table_says_which_bars_are_met():
    shown = benchmark.input_table(input_report())
    assert "1.40 met, bar 1.40" in shown
    assert "1.50 NOT met, bar 2.00" in shown
    assert "ours, originals: all 2 cores / one: 1.80 met, bar 1.75" in shown
    assert "0.50 s in its middle met, bar 1 s" in shown
    assert "at most 910 MB: -10 MB" in shown


def test_the_inputs_table_says_what_is_missing():
    shown = benchmark.input_table(
        input_report(versions={"tensorflow-cpu": "0"}, memory_mb=None)
    )
    assert "grain is not installed: pip install grain" in shown
    assert "not measured" in shown
    assert "bar" not in benchmark.input_table(input_report(batch_size=32))


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        (0.31, "From originals: The step waits for the input, 31% of the time."),
        (0.01, "From originals: The input waits for the step."),
    ],
)
def test_the_side_that_waits_is_named(waiting, said):
    row = {
        "name": "originals",
        "input": 100.0,
        "step": 20.0,
        "both": 18.0,
        "waiting": waiting,
    }
    shown = benchmark.both_table({**CONDITIONS, "batch_size": 32, "rows": [row]})
    assert said in shown.splitlines()
