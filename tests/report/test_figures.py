"""What the figure shows, read from the drawn figure."""

import pytest
from matplotlib import pyplot as plt
from report_records import CLAIM, experiment, row, summary_of, trial

from alexnet_jax.report import figures
from alexnet_jax.report.run_reader import Outcome


def outcome(arm, rate, seed, errors, status="finished"):
    rows = [row("train", float(i), error) for i, error in enumerate(errors, start=1)]
    return Outcome(trial(arm, seed, rate), status, rows)


def summarize(outcomes, *, rates=(0.1, 0.2), seeds=1):
    return summary_of(experiment(seeds=seeds, rates=rates), outcomes)


@pytest.fixture
def drawn(monkeypatch):
    """Keeps the figure open to be read."""
    monkeypatch.setattr(figures.plt, "close", lambda _: None)
    yield plt.gcf
    plt.close("all")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_crossings_are_marked_where_the_curves_meet_the_line(drawn, tmp_path):
    outcomes = [
        outcome("ReLU", 0.1, 0, [0.9, 0.1]),
        outcome("ReLU", 0.2, 0, [0.9, 0.8]),
        outcome("tanh", 0.1, 0, [0.9, 0.8]),
        outcome("tanh", 0.2, 0, [0.9, 0.5, 0.1]),
    ]
    summary = summarize(outcomes)
    figures.draw(summary, outcomes, tmp_path)
    curves, tuned = drawn().axes
    assert summary["arms"]["ReLU"]["mean"] == pytest.approx(0.5 + 0.65 / 0.8)
    assert {"1.31", "2.12", "25%"} <= set(texts(curves))
    assert [line.get_ydata()[0] for line in curves.lines].count(0.25) == 3
    assert texts(tuned) == ["1×", "1×"]  # seeds that did not reach 25%
    assert tuned.get_xscale() == "log"
    assert drawn()._suptitle.get_text() == "relu_vs_tanh on digits (the paper: cifar10)"


def test_without_tuned_values_there_are_only_curves(drawn, tmp_path):
    outcomes = [
        outcome("ReLU", None, 0, [0.9, 0.1]),
        outcome("tanh", None, 0, [0.9, 0.2]),
    ]
    figures.draw(summarize(outcomes, rates=None), outcomes, tmp_path)
    assert len(drawn().axes) == 1
    assert (tmp_path / "figure.png").exists()
    assert (tmp_path / "figure.svg").exists()


def test_an_arm_without_rows_does_not_keep_the_others_from_being_drawn(drawn, tmp_path):
    outcomes = [
        outcome("ReLU", None, 0, [], status="diverged"),
        outcome("tanh", None, 0, [0.9, 0.2]),
    ]
    figures.draw(summarize(outcomes, rates=None), outcomes, tmp_path)
    legend = drawn().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["tanh"]


@pytest.mark.parametrize("metric", ["top1_error", "overfitting_gap"])
def test_training_errors_are_thin_beside_test_errors(
    drawn, tmp_path, monkeypatch, metric
):
    """So that a gap between them can be seen; the legend has one line for all arms."""
    monkeypatch.setitem(CLAIM, "metric", metric)
    monkeypatch.setitem(CLAIM, "paper", "higher")
    outcomes = []
    for arm, test in (("ReLU", 0.04), ("tanh", 0.06)):
        one = outcome(arm, None, 0, [0.9, 0.02])
        one.rows.extend(
            row("eval", float(i), e) for i, e in enumerate([0.9, 0.5, test])
        )
        outcomes.append(one)
    figures.draw(summarize(outcomes, rates=None), outcomes, tmp_path)
    (axes,) = drawn().axes
    ends = {
        (line.get_color(), line.get_linewidth()): line.get_ydata()[-1]
        for line in axes.lines
        if len(line.get_ydata())
    }
    assert ends == {
        (figures.COLORS[0], 1.8): 0.04,
        (figures.COLORS[0], 0.8): 0.02,
        (figures.COLORS[1], 1.8): 0.06,
        (figures.COLORS[1], 0.8): 0.02,
    }
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["ReLU", "tanh", "thin: training error"]


def test_where_a_seed_diverged_the_others_continue_as_thin_lines(drawn, tmp_path):
    """The mean of fewer seeds would jump."""
    outcomes = [
        outcome("ReLU", None, 0, [0.9, 0.7], status="diverged"),
        outcome("ReLU", None, 1, [0.9, 0.5, 0.1]),
        outcome("tanh", None, 0, [0.9, 0.8, 0.2]),
        outcome("tanh", None, 1, [0.9, 0.8, 0.2]),
    ]
    figures.draw(summarize(outcomes, rates=(), seeds=2), outcomes, tmp_path)
    lines = {
        line.get_linewidth(): line.get_ydata()
        for line in drawn().axes[0].lines
        if line.get_color() == figures.COLORS[0] and len(line.get_ydata()) > 1
    }
    assert lines[1.8] == pytest.approx([0.9, 0.6])
    assert lines[0.7] == pytest.approx([0.5, 0.1])
