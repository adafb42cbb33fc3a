"""How implementations are timed."""

import functools

from benchmarks.timing import Comparison, median_milliseconds


def test_implementations_take_turns_and_compilation_is_not_timed():
    turns = []
    implementations = {
        name: functools.partial(turns.append, name) for name in ("ours", "plain")
    }
    # Seconds at the start and the end of each timed call.
    ticks = iter([0.0, 1.0, 10.0, 14.0, 20.0, 22.0, 30.0, 35.0, 40.0, 49.0, 50.0, 56.0])
    comparison = Comparison("a row", implementations)
    times = median_milliseconds(comparison, 3, lambda: next(ticks))
    assert turns == ["ours", "plain"] * 4  # the first calls compile
    assert times == {"ours": 2000.0, "plain": 5000.0}
