"""A page in headless Chromium: a script goes through it as a reader would, and what it found comes back."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no chromium: apt-get install chromium")

_OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
# Errors, refused loads among them, are gathered from the start; what the script returns is written down as JSON.
_LISTEN = """<script>
var errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
window.addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
</script>"""
_ACT = """<script>
(async () => {{ {script} }})().catch((error) => ({{ failed: String(error) }})).then((found) => {{
  const output = document.body.appendChild(document.createElement("output"));
  output.id = "found";
  output.textContent = JSON.stringify({{ found, errors }});
}});
</script>"""


def found_by(script: str, page: str, folder: Path, *, webgl: bool = True) -> Any:
    """Open a page from a file, run the body of an async function in it, and return what that returns.

    Raises:
        AssertionError: the page has errors, or the script came to no end.
    """
    file = folder / "page.html"
    listening = page.replace("<title>", _LISTEN + "<title>", 1)
    before, end, after = listening.rpartition("</body>")
    file.write_text(before + _ACT.format(script=script) + end + after, encoding="utf-8")
    dom = _dumped(file, folder / "profile", _WEBGL if webgl else ("--disable-3d-apis",))
    output = re.search('<output id="found">(.*)</output>', dom)
    assert output, "the script did not end:\n" + re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)[-3000:]
    result = json.loads(html.unescape(output[1]))
    assert not result["errors"], result
    return result["found"]


def _dumped(file: Path, profile: Path, flags: tuple[str, ...]) -> str:
    words = (str(PROGRAM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *_OFFLINE, *flags)
    options = (f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--dump-dom", file.as_uri())
    done = subprocess.run((*words, *options), capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
