"""A whole study whose databases are on a PostgreSQL server, by the commands that a user types."""

import json
import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from typer.testing import CliRunner

from crowd_imi.cli.app import app
from crowd_imi.cli.pages import _check_run, _pages
from crowd_imi.plan import load_plan
from crowd_imi.platforms.local import LocalPlatform
from crowd_imi.publisher import launch
from crowd_imi.store import StoreKind
from crowd_imi.store.engine import open_engine
from crowd_imi.store.server import VARIABLE
from tests.pages.visitor import Visitor
from tests.tiny import STUDY_TOML, approve, fake_plan, write_pack, write_study

SECRET = "correct-horse"
TOML = STUDY_TOML.replace("min_total_seconds = 60", "min_total_seconds = 0\nmin_instruction_seconds = 0").replace(
    "min_row_choices = 1", "min_row_choices = 0"
)
TASKS = 6


@pytest.fixture
def study(tmp_path, postgres, monkeypatch):
    study = write_study(tmp_path / "study", TOML)
    pack = write_pack(study)
    fake_plan(study).model_copy(update={"pack_sha256": pack.digest}).save(study.plan)
    approve(study)
    host = make_url(postgres()).query["host"]
    monkeypatch.setenv(VARIABLE, f"postgresql://imi:{SECRET}@/postgres?host={host}")
    return study


def crowd_imi(*arguments):
    """What a command says, all of it, and its JSON document where it has one."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    return json.loads(done.stdout) if "--json" in arguments else done.output


def fails(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1 and "Traceback" not in done.output and SECRET not in done.output
    return done.output


def everybody_takes_part(study):
    """Through the app that ``serve`` runs in its workers."""
    pages = _pages(study, study.folder, _check_run(study, study.folder))
    platform = LocalPlatform(study.folder / "local.db")
    platform.set_base_url("http://127.0.0.1:1")
    [place] = platform.open_places()
    for number in range(TASKS):
        submission = platform.take(place.posting, f"p{number}").id
        visitor = Visitor(pages)
        assert visitor.arrive(f"p{number}", submission, place.posting).status_code == 303
        visitor.answer_all()
        reply = visitor.post("/api/submit", {"feedback": ""}).json
        platform.complete(submission, reply["completion"]["url"].rpartition("=")[2])
    pages.extensions["crowd_imi"].store.close()
    pages.extensions["crowd_imi"].platform.close()
    platform.close()


def test_a_study_from_publish_to_score(study, tmp_path):
    said = crowd_imi("publish", study.folder, "--yes")
    assert "what people do is kept in postgresql://imi@/postgres (schema crowd_imi_tiny_" in said
    assert not (study.folder / "study.db").exists() and study.database.name == "databases.json"
    everybody_takes_part(study)
    crowd_imi("harvest", study.folder, "--json")
    status = crowd_imi("status", study.folder, "--json")
    assert [arm["open"] for arm in status["arms"]] == [0, 0]
    models = crowd_imi("score", study.folder, "--json")["groups"]
    assert models and all(group["mean"] == 1.0 for group in models)  # everybody was right everywhere
    again = crowd_imi("publish", study.folder, "--yes", "--json")
    assert again["places"] == TASKS
    everything = [path.read_bytes() for path in study.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in everything)
    crowd_imi("export", study.folder, "--format", "csv", "--to", tmp_path / "tables")


def test_what_else_is_on_the_server_and_what_was_cut_off_keeps_nobody_from_publishing(study, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # after the commit, before the folder knows
        patch.setattr(launch, "note_databases", crash)
        done = CliRunner().invoke(app, ["publish", str(study.folder), "--yes"])
        assert done.exit_code == 1 and "run the same command again" in done.output
    assert not study.database.exists()
    crowd_imi("publish", study.folder, "--yes")
    assert study.database.exists()
    other = write_study(study.folder.parent / "other", TOML)
    launch.create_store(other, fake_plan(other), other.folder, StoreKind.STUDY).close()
    assert other.database.read_bytes() != study.database.read_bytes()


def test_a_database_that_was_made_from_another_plan_is_refused(study):
    other = load_plan(study.plan).model_copy(update={"seed": 8})
    launch.create_store(study, other, study.folder, StoreKind.STUDY).close()
    study.database.unlink()
    assert "is there already, made from another plan" in fails("publish", study.folder, "--yes")
    assert not study.database.exists()


def test_a_study_in_its_folder_isnt_published_to_a_server(study, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv(VARIABLE)
        crowd_imi("publish", study.folder, "--yes")
    assert "began in its folder" in fails("publish", study.folder, "--yes")
    crowd_imi("status", study.folder, "--json")


def test_rehearsals_and_previews_stay_in_their_folders(study):
    folder = study.rehearsal("preview")
    launch.create_store(study, fake_plan(study), folder, StoreKind.PREVIEW).close()
    assert (folder / "study.db").exists() and not (folder / "databases.json").exists()


def test_a_server_that_is_gone_is_said_in_one_line(study, monkeypatch):
    crowd_imi("publish", study.folder, "--yes")
    monkeypatch.setenv(VARIABLE, f"postgresql://imi:{SECRET}@127.0.0.1:1/imi")
    for name in ("status", "harvest", "score", "serve", "dashboard"):
        assert "the server can't be used" in fails(name, study.folder)


def test_a_backup_says_how_to_copy_the_databases_and_a_copy_may_not_spend(study, tmp_path, postgres, monkeypatch):
    crowd_imi("publish", study.folder, "--yes")
    done = crowd_imi("backup", study.folder, tmp_path / "copy.tar", "--json")
    people, answers = map(shlex.split, done["elsewhere"])
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    for copying in (people, answers):
        subprocess.run([programs / copying[0], *copying[1:]], check=True)
    assert (tmp_path / "copy.people.dump").stat().st_size > 0 and (tmp_path / "copy.study.dump").stat().st_size > 0
    with tarfile.open(tmp_path / "copy.tar") as tar:
        assert "databases.json" in tar.getnames()
    restored = tmp_path / "restored"
    assert "databases are on a server" in crowd_imi("restore", tmp_path / "copy.tar", restored)
    # It is the same database, so there is one lease and one set of books.
    crowd_imi("harvest", restored, "--json")
    admin = open_engine(postgres()).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE put_back"))
    elsewhere = make_url(os.environ[VARIABLE]).set(database="put_back").render_as_string(hide_password=False)
    for dump in ("people", "study"):
        subprocess.run([programs / "pg_restore", f"--dbname={elsewhere}", tmp_path / f"copy.{dump}.dump"], check=True)
    monkeypatch.setenv(VARIABLE, elsewhere)
    crowd_imi("status", restored, "--json")
    assert "this is a copy of the database that spent until now" in fails("harvest", restored)
    assert "may spend from now on" in crowd_imi("restore", "--take-over", restored)
    crowd_imi("harvest", restored, "--json")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE put_back WITH (FORCE)"))
    admin.dispose()
