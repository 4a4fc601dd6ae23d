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
    # All but the one that can't be read; of the copy and its original, a unit is shown one.
    assert document["images"] == 131
    assert document["unreadable"] == ["broken.png"]
    assert document["skipped"]["near-duplicate"] > 0
    assert document["units"] == {"net-natural-easy": 9, "net-natural-very_hard": 6, "net-synthetic-easy": 3}


def test_render_names_and_counts_what_cannot_be_read(rendered):
    said = CliRunner().invoke(app, ["render", str(rendered.folder)]).stdout
    assert f"left out, as it can't be read: {rendered.images / 'broken.png'}\n" in said
    assert "from 131 usable ones (1 can't be read) in" in said


def test_a_crop_cache_without_a_name_is_a_mistake_of_the_caller(rendered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name, said in (("", "the folder's name is empty"), (" ", "the folder's name is empty"), ("file", "file is a file")):
        done = CliRunner().invoke(app, ["render", str(rendered.folder), "--crop-cache", name])
        assert done.exit_code == 2 and said in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gallery_prints_where_the_page_is(run, rendered):
    assert run("gallery", rendered.folder, "--json") == {
        "gallery": str(rendered.pack / "gallery.html"),
        "vetoed_images": [],
        "vetoed_units": [],
        "signed_off": False,
    }


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
