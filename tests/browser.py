"""What Chromium measures in a page, without a window."""

import html
import json
import re
import shutil
import subprocess

import pytest


def measured(frame, folder):
    """What the script of a page writes as JSON into its element `found`.

    The test is skipped where there is no Chromium.

    Args:
      frame: The page, as text.
      folder: Where it is written, and the browser's profile.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium to open the page in")
    (folder / "frame.html").write_text(frame)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    options += ["--window-size=1400,900", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [browser, *options, (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(html.unescape(found))
