"""What the build takes from the npm registry."""

import hashlib
import json
from pathlib import Path

from crowd_imi.resources import built, resource


def test_the_lock_file_pins_checksums_and_names_no_download_address():
    lock = json.loads(resource("hit_templates", "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("resolved" not in package and "integrity" in package for package in packages.values())


def test_the_built_scripts_come_from_this_lock_file_and_carry_every_licence():
    templates = resource("hit_templates")
    lock = templates / "package-lock.json"
    stamp = hashlib.sha256(lock.read_bytes() + (templates / "build.py").read_bytes()).hexdigest()
    assert built("built-from.txt").read_text().strip() == stamp, "run `python hit_templates/build.py`"
    licences = built("LICENSES.txt").read_text()
    packages = [Path(name) for name in json.loads(lock.read_text())["packages"] if name]
    assert packages and all(f"{package.relative_to('node_modules').as_posix()} " in licences for package in packages)


def test_no_script_of_the_pages_names_another_server():
    folder = resource("hit_templates", "two_alternative")
    sources = [*folder.glob("*.js"), *folder.glob("*.css"), *folder.glob("*.html")]
    assert sources
    assert not [source.name for source in sources if "http://" in source.read_text() or "https://" in source.read_text()]
