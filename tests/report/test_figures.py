"""What the figure shows, read from the drawn figure."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from report_records import CLAIM, experiment, row, summary_of, trial, with_errors

from alexnet_jax.report import figures, headline
from alexnet_jax.report.drawing import COLORS, PAPER_COLOR, arm_styles, mark_crossing
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
    curves, tuned, comparison = drawn().axes
    assert summary["arms"]["ReLU"]["mean"] == pytest.approx(0.5 + 0.65 / 0.8)
    assert {"1.31", "2.12", "25%"} <= set(texts(curves))
    assert [line.get_ydata()[0] for line in curves.lines].count(0.25) == 3
    assert texts(tuned) == ["1×", "1×"]  # seeds that did not reach 25%
    assert tuned.get_xscale() == "log"
    title = " ".join(text.get_text() for text in drawn().texts)
    assert headline.question(summary) in title
    assert headline.short_answer(summary) in title
    assert "on handwritten digits" in title
    assert "The paper, on CIFAR-10: 6" in title
    assert "the paper: 6" in texts(comparison)
    assert 6.0 in [line.get_xdata()[0] for line in comparison.lines]


def test_a_tuned_value_of_0_is_drawn(drawn, tmp_path):
    """Such as no weight decay, which a logarithmic axis would leave out."""
    outcomes = [
        outcome(arm, rate, 0, [0.9, 0.1]) for arm in ("ReLU", "tanh") for rate in (0, 1)
    ]
    figures.draw(summarize(outcomes, rates=(0, 1)), outcomes, tmp_path)
    _, tuned, _ = drawn().axes
    assert tuned.get_xscale() == "symlog"


def test_without_tuned_values_there_are_curves_and_the_comparison(drawn, tmp_path):
    outcomes = [
        outcome("ReLU", None, 0, [0.9, 0.1]),
        outcome("tanh", None, 0, [0.9, 0.2]),
    ]
    figures.draw(summarize(outcomes, rates=None), outcomes, tmp_path)
    assert len(drawn().axes) == 2
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
    axes, _ = drawn().axes
    # Small errors are told apart on a logarithmic axis, which says so.
    assert axes.get_yscale() == "symlog"
    assert "log scale" in axes.get_ylabel()
    ends = {
        (line.get_color(), line.get_linewidth()): line.get_ydata()[-1]
        for line in axes.lines
        if len(line.get_ydata())
    }
    assert ends == {
        (COLORS[0], 1.8): 0.04,
        (COLORS[0], 0.8): 0.02,
        (COLORS[1], 1.8): 0.06,
        (COLORS[1], 0.8): 0.02,
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
        if line.get_color() == COLORS[0] and len(line.get_ydata()) > 1
    }
    assert lines[1.8] == pytest.approx([0.9, 0.6])
    assert lines[0.7] == pytest.approx([0.5, 0.1])


def test_many_arms_are_rows_of_dots_with_the_papers_number(drawn, tmp_path):
    errors = {f"without {n}": [(e, e, e) for e in (0.4, 0.41)] for n in range(6)}
    errors["all"] = [(0.38, 0.38, 0.38), (0.38, 0.38, 0.38)]
    pairs = [[arm, "all"] for arm in errors if arm != "all"]
    claim = CLAIM | {"metric": "top1_error", "compare": pairs, "paper": 0.02}
    outcomes = with_errors({(arm, None): values for arm, values in errors.items()})
    content = experiment(claim=claim, rates=(), arms=errors)
    figures.draw(summary_of(content, outcomes), outcomes, tmp_path)
    arms, comparisons = drawn().axes
    assert [label.get_text() for label in arms.get_yticklabels()] == list(errors)
    assert not arms.collections  # no bands
    labels = [label.get_text() for label in comparisons.get_yticklabels()]
    assert labels == [f"{arm} - all" for arm, _ in pairs]
    paper = [line for line in comparisons.lines if line.get_color() == PAPER_COLOR]
    assert [line.get_xdata()[0] for line in paper] == [2.0]


def test_an_error_that_nothing_is_compared_with_stands_beside_the_papers(
    drawn, tmp_path
):
    claim = CLAIM | {"metric": "top1_error", "compare": None, "paper": 0.182}
    outcomes = with_errors({("alexnet", None): [(0.1, 0.3, 0.1)]})
    content = experiment(claim=claim, rates=(), arms=["alexnet"], seeds=1)
    figures.draw(summary_of(content, outcomes), outcomes, tmp_path)
    curves, dots = drawn().axes
    assert curves.get_yscale() == "linear"
    lines = [line for line in curves.lines if line.get_color() == PAPER_COLOR]
    assert lines[0].get_ydata()[0] == 0.182
    assert "the paper: 18.2%" in texts(dots)


def test_a_bound_is_drawn_with_its_direction(drawn, tmp_path):
    outcomes = [
        outcome("ReLU", None, 0, [0.9, 0.1]),
        outcome("tanh", None, 0, [0.9, 0.8, 0.8, 0.8]),
    ]
    summary = summarize(outcomes, rates=None)
    figures.draw(summary, outcomes, tmp_path)
    bound = summary["comparisons"][0]["at_least"]
    comparison = drawn().axes[-1]
    markers = [line for line in comparison.lines if line.get_marker() == ">"]
    assert [line.get_xdata()[0] for line in markers] == [bound]


def test_no_two_arms_share_color_and_line():
    styles = arm_styles([f"arm {n}" for n in range(50)])
    looks = {(style["color"], str(style["linestyle"])) for style in styles.values()}
    assert len(looks) == 50
    few = list(styles.values())[:7]
    assert len({style["color"] for style in few}) == 7
    assert len({str(style["linestyle"]) for style in few}) == 7


@pytest.mark.parametrize(("epoch", "side"), [(2.0, "left"), (9.5, "right")])
def test_an_epoch_near_the_edge_is_written_inside(epoch, side):
    axes = Figure().add_subplot()
    axes.set_xlim(0, 10)
    mark_crossing(axes, (epoch, 0.25), "black", below=True)
    (text,) = axes.texts
    assert (text.get_text(), text.get_ha()) == (f"{epoch:.2f}", side)
    assert (text.xyann[0] > 0) == (side == "left")
