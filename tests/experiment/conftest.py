"""What the tests of experiments share."""

import pytest

from alexnet_jax.report import figures


@pytest.fixture(autouse=True, scope="module")
def undrawn(request):
    """Leaves the figures of runs undrawn, each of which takes two seconds to draw.

    Not where figures are tested.
    """
    if request.module.__name__ in (
        "test_analysis",
        "test_end_to_end",
        "test_notebooks",
    ):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "render", lambda *_, **__: {"png": b"-", "svg": b"-"})
        yield
