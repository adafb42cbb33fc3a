"""Photographs for the tests of the input benchmarks."""

from pathlib import Path

import pytest

from benchmarks.input_photographs import photographs

NUM_PHOTOGRAPHS = 12  # Every sample image gives some; one is held out.


@pytest.fixture(scope="session")
def few_photographs():
    with photographs(NUM_PHOTOGRAPHS) as made:
        yield made
    assert not Path(made.paths[0]).exists()
