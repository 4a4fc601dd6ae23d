import json
import shutil

import pytest
from typer.testing import CliRunner

from crowd_imi.cli.app import app


@pytest.fixture
def run():
    def call(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        return json.loads(done.stdout)

    return call


def test_render_prints_one_document(run, rendered):
    document = run("render", rendered.folder, "--json")
    assert document["images"] == 130 and document["unreadable"] == ["broken.png"]
    assert document["units"] == {"net-natural-easy": 9, "net-natural-very_hard": 6, "net-synthetic-easy": 3}


def test_render_names_and_counts_what_cannot_be_read(rendered):
    said = CliRunner().invoke(app, ["render", str(rendered.folder)]).stdout
    assert f"left out, as it can't be read: {rendered.images / 'broken.png'}\n" in said
    assert "from 130 usable ones (1 can't be read) in" in said


def test_gallery_prints_where_the_page_is(run, rendered):
    assert run("gallery", rendered.folder, "--json") == {"gallery": str(rendered.pack / "gallery.html")}


def test_pack_verify_counts_whole_images(run, rendered):
    assert run("pack", "verify", rendered.folder, "--json")["images"] > 100


def test_pack_verify_names_every_damaged_image(rendered, tmp_path):
    shutil.copytree(rendered.folder, tmp_path / "study")
    changed, gone = sorted((tmp_path / "study" / "pack" / "images").glob("*/*.png"))[:2]
    changed.write_bytes(b"other")
    gone.unlink()
    done = CliRunner().invoke(app, ["pack", "verify", str(tmp_path / "study")])
    assert done.exit_code == 1
    assert f"error: {changed}: changed" in done.stderr and f"error: {gone}: missing" in done.stderr
    assert "error: 2 of" in done.stderr
