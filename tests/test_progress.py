"""Progress is a bar on a terminal, and plain lines elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from alexnet_jax import progress as progress_module
from alexnet_jax.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """The time that Progress sees, set by the test."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(
        progress_module, "time", SimpleNamespace(monotonic=lambda: now.seconds)
    )
    return now


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys, clock):
    with Progress(1000) as progress:
        progress.begin("trial 1/2 ReLU seed0")
        for clock.seconds in range(1, 21):
            progress.advance(20)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        " 20%  trial 1/2 ReLU seed0  20 images/s  0:40 left",
        " 40%  trial 1/2 ReLU seed0  20 images/s  0:30 left",
    ]


def test_plain_lines_come_every_ten_seconds_at_most(capsys, clock):
    with Progress(10**6) as progress:
        for clock.seconds in (0.1, 9.9, 10.0, 10.1, 19.9, 20.1, 100.0):
            progress.advance(1000)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_slow_start_has_no_time_left_to_tell(capsys, clock):
    """A trial that resumes from nothing advances by no images."""
    with Progress(1000) as progress:
        clock.seconds = 60.0
        progress.advance(0)
    assert len(capsys.readouterr().err.splitlines()) <= 1


def test_the_total_is_corrected_where_a_trial_ends_early(capsys, clock):
    with Progress(10000) as progress:
        progress.begin("a")
        progress.set_total(400)
        clock.seconds = 10.0
        progress.advance(100)
        progress.print("a diverged")
    assert capsys.readouterr().err.splitlines() == [
        " 25%  a  10 images/s  0:30 left",
        "a diverged",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(1000) as progress:
        progress.begin("trial 1/2 ReLU seed0")
        progress.set_total(500)
        progress.advance(100)
        progress.advance(100)
        progress.print("tanh seed0 diverged")
        assert (progress.bar.n, progress.bar.total) == (200, 500)
    shown = terminal.getvalue()
    assert "trial 1/2 ReLU seed0: " in shown
    assert "40%" in shown
    assert "tanh seed0 diverged\n" in shown
    assert "images/s  " not in shown  # no plain lines beside the bar


def test_the_bar_appears_with_the_first_begin_and_counts_what_was_skipped(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(40) as progress:
        progress.print("needs 1 MB")
        assert progress.bar is None
        progress.begin("preparing digits")
        progress.skip(30)
        assert (progress.bar.n, progress.bar.total) == (30, 40)
    assert terminal.getvalue().startswith("needs 1 MB\n")


def test_skipped_images_do_not_count_as_throughput(capsys, clock):
    with Progress(1000) as progress:
        clock.seconds = 100.0
        progress.begin("preparing digits")  # The time before it does not count either.
        progress.skip(500)
        clock.seconds = 110.0
        progress.advance(100)
    expected = " 60%  preparing digits  10 images/s  0:40 left\n"
    assert capsys.readouterr().err == expected


def test_what_is_not_shown_prints_nothing(capsys, clock):
    with Progress(1000, shown=False) as progress:
        progress.begin("a")
        clock.seconds = 20.0
        progress.advance(100)
        progress.print("a diverged")
    assert capsys.readouterr().err == ""


def test_there_is_no_time_left_until_compilation_is_out_of_it(capsys, clock):
    """900 s of compilation, then a step of ten images a second."""
    with Progress(1000) as progress:
        progress.begin("trial 1/1")
        progress.compiling("steps", untimed=3)
        progress.compiling("evaluation")
        for clock.seconds in (900, 901, 902):  # These are in flight before one is done.
            progress.advance(10)
        for clock.seconds in range(903, 914):
            progress.advance(10)
    first, then = capsys.readouterr().err.splitlines()
    assert "images/s" not in first
    assert first.endswith("known yet")
    assert then == " 11%  trial 1/1  10 images/s  1:29 left"


def test_a_program_is_compiled_once(capsys, clock):
    """What else happens between two trials takes time in the next one, too."""
    with Progress(1000) as progress:
        for label, start in (("a", 100), ("b", 120)):
            progress.begin(label)
            progress.compiling("steps")
            for clock.seconds in (start, start + 10):
                progress.advance(100)
    assert progress.timed_images == 300
    assert capsys.readouterr().err.splitlines()[-1].startswith(" 40%  b  10 images/s")


def test_the_time_of_another_program_is_counted_but_for_its_compilation(clock):
    with Progress(1000) as progress:
        for program, start in (("relu", 100), ("tanh", 220)):
            progress.compiling(program)
            for clock.seconds in (start, start + 10):
                progress.advance(100)
        assert (progress.timed_images, progress.timed_seconds) == (200, 10.0)


def test_an_estimate_needs_a_second(capsys, clock):
    with Progress(1000) as progress:
        progress.compiling("steps")
        for clock.seconds in (99.0, 99.01):
            progress.advance(10)
    assert "left not known" in capsys.readouterr().err.splitlines()[0]
