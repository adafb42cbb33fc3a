"""What the tests of reports share."""

import pytest

from alexnet_jax.report import figures

EMPTY_SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the figure empty where a test reads the text: to draw it takes a second."""
    monkeypatch.setattr(
        figures, "render", lambda *_, **__: {"png": b"", "svg": EMPTY_SVG}
    )
