"""Which claims can be answered, and what is reported of those that cannot."""

import pytest
from report_records import CLAIM

from alexnet_jax.errors import UserError
from alexnet_jax.report.claims import (
    answerable_claims,
    check_claim,
    describe_metric,
)


def check(claim, **networks):
    networks = {"ReLU": 1, "tanh": 1} | networks
    check_claim(claim, experiment="relu_vs_tanh", networks=networks)


def test_the_claim_of_these_tests_can_be_answered():
    check(CLAIM)
    check(CLAIM | {"also": ({"metric": "top5_error", "paper": 0.012},)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "accuracy"}, "'accuracy'.*top5_error"),
        ({"threshold": 1.5}, "'threshold'"),
        ({"threshold": "a quarter"}, "'threshold'"),
        ({"treshold": 0.3}, "'treshold'.*'threshold'"),
        ({"paper": "six"}, '"higher" or "lower"'),
        ({"paper": "higher", "compare": ()}, "two arms"),
        ({"paper": 1.0}, "no effect.*Give None"),
        ({"paper": 0}, "ratio of epochs above 0"),
        ({"paper": -6.0}, "ratio of epochs above 0"),
        ({"paper": float("nan")}, "ratio of epochs above 0"),
        ({"paper": float("inf"), "metric": "top1_error"}, "a fraction"),
        ({"paper": True}, '"higher" or "lower"'),
        ({"paper": [6.0]}, '"higher" or "lower"'),
        ({"metric": ["top1_error"]}, "metric.*top1_error"),
        ({"compare": 5}, "'compare' is 5"),
        ({"compare": [["tanh", 5]]}, "'compare'.*Give two arms"),
        ({"section": 3.1}, "'section' is 3.1"),
        ({"paper": 0.0, "metric": "top1_error"}, "no effect.*Give None"),
        ({"paper": -0.2, "metric": "top1_error", "compare": ()}, "never negative"),
        ({1: 2}, "unknown key '1'"),
        ({"paper": 1.2, "metric": "top1_error"}, "write 0.012 for 1.2 points"),
        ({"compare": ["tanh"]}, "two different arms"),
        ({"compare": "ReLU"}, "'ReLU': give two different arms"),
        ({"compare": ["tanh", "Relu"]}, "'Relu'.*Did you mean 'ReLU'"),
        ({"compare": [["tanh", "ReLU"], ["tanh", "tanh"]]}, "two different arms"),
        ({"also": {"metric": "top5_error", "paper": 1}}, r"'also'.*\(\{\.\.\.\},\)"),
        ({"also": ["top5_error"]}, r"also\[0\], is 'top5_error'"),
        ({"also": [{"metric": "top5_error"}]}, r"also\[0\] \(top5_error\),.*'paper'"),
        ({"also": [{"paper": 0.1}]}, r"also\[0\],.*'metric'"),
        ({"also": [{"metric": "top5_error", "paper": 0}]}, r"also\[0\].*no effect"),
        (
            {"also": [{"metric": "top5_error", "paper": 0.1, "compair": ["tanh"]}]},
            r"also\[0\].*'compair'.*Did you mean 'compare'",
        ),
        (
            {
                "also": [
                    {"metric": "top5_error", "paper": 1},
                    {"metric": "a", "paper": 1},
                ]
            },
            r"also\[1\] \(a\), has the unknown metric 'a'",
        ),
    ],
)
def test_a_claim_that_cannot_be_answered_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        check(CLAIM | change)


def test_what_is_not_a_claim_is_refused():
    with pytest.raises(UserError, match="is None: give"):
        check(None)
    with pytest.raises(UserError, match="lacks 'section'"):
        check({})


def test_an_average_of_networks_has_no_training_error():
    with pytest.raises(UserError, match="'tanh' averages networks"):
        check(CLAIM, tanh=2)


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [(0.25, "25%"), (0.07, "7%"), (0.001, "0.1%"), (0.0001, "0.01%")],
)
def test_a_small_threshold_is_not_rounded_to_nothing(threshold, shown):
    claim = CLAIM | {"threshold": threshold}
    assert describe_metric(claim) == f"epochs to {shown} training error"


def test_with_five_classes_or_fewer_a_claim_about_top_5_asks_for_top_1():
    top1 = {"metric": "top1_error", "paper": 0.014}
    top5 = {"metric": "top5_error", "paper": 0.012}

    def asked(main, also=(), num_classes=5):
        found = answerable_claims(CLAIM | main | {"also": also}, num_classes)
        return [(one["metric"], one["paper"]) for one in found]

    assert asked(top1, [top5]) == [("top1_error", 0.014)]
    assert asked(top5) == [("top1_error", None)]
    # A further claim about the same top-1 errors has the paper's number for them.
    assert asked(top5, [top1]) == [("top1_error", 0.014)]
    both = [("top5_error", 0.012), ("top1_error", 0.014)]
    assert asked(top5, [top1], num_classes=6) == both
    assert asked(top5, [top1], num_classes=None) == both
