"""The deployment files, as far as they can be looked at without a server: they parse, and name commands that exist."""

import configparser
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from sqlalchemy import make_url
from typer.main import get_command

from crowd_imi.cli.app import app
from crowd_imi.errors import PlatformError
from crowd_imi.platforms.mturk import MturkPlatform
from crowd_imi.platforms.prolific import TOKEN_VARIABLE
from crowd_imi.platforms.prolific_hooks import SECRET_VARIABLE
from crowd_imi.study import MturkSection

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs" / "how-to" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def instructions(name):
    """A Dockerfile's instructions, lines that are continued put together."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    return re.findall(rf"^\s*(?:{name}) (.*)$", text, flags=re.MULTILINE)


def entry():
    return yaml.safe_load(instructions("ENTRYPOINT")[0])


UNITS = ("crowd-imi.service", "crowd-imi-harvest.service")


def unit(name):
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    assert parser.read(DEPLOY / name, encoding="utf-8")
    return parser


COMMANDS = {
    "Dockerfile": [*entry(), *yaml.safe_load(instructions("CMD")[0])],
    **{name: shlex.split(unit(name)["Service"]["ExecStart"]) for name in UNITS},
    **{f"compose {name}": [*entry(), *service["command"]] for name, service in COMPOSE["services"].items() if "build" in service},
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_and_options_exist(words):
    group = get_command(app)
    assert Path(words[0]).name == "crowd-imi"
    assert words[1:3] == ["--log-level", "info"]
    command = group.commands[words[3]]
    # Parsed as the command line does it; a wrong option or value ends here.
    context = command.make_context(words[3], list(words[4:]), resilient_parsing=False)
    assert str(context.params["study" if "study" in context.params else "folder"]) in {"/study", "/srv/study"}


def test_what_compose_builds_and_mounts_is_there():
    assert set(COMPOSE["services"]) == {"pages", "harvest", "database", "proxy"}
    for service in COMPOSE["services"].values():
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = re.sub(r"\$\{[^}]*\}", "STUDY", volume).partition(":")[0]
            assert source == "STUDY" or source in COMPOSE["volumes"] or (DEPLOY / source).is_file()
    assert COMPOSE["services"]["proxy"]["depends_on"]["pages"]["condition"] == "service_healthy"
    for name in ("pages", "harvest"):
        address = COMPOSE["services"][name]["environment"]["CROWD_IMI_DATABASE_URL"]
        assert make_url(address).host in COMPOSE["services"] and make_url(address).password is None
    # Only the proxy is reached from outside.
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["proxy"]


def test_who_asks_a_platform_gets_every_credential_that_one_may_want():
    # Prolific's token and the secret of its events, and what boto3 reads for Mechanical Turk and for hosted sprites; empty where
    # .env has none.
    wanted = {TOKEN_VARIABLE, SECRET_VARIABLE, *(f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))}
    wanted |= {"AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"}
    for name in ("pages", "harvest"):
        given = COMPOSE["services"][name]["environment"]
        assert {variable: given.get(variable) for variable in wanted} == {variable: f"${{{variable}:-}}" for variable in wanted}
    for name in ("database", "proxy"):
        assert not wanted & set(COMPOSE["services"][name].get("environment", {}))


def test_credentials_that_env_leaves_out_are_as_good_as_unset(monkeypatch):
    for name, value in COMPOSE["services"]["pages"]["environment"].items():
        if str(value) == f"${{{name}:-}}":
            monkeypatch.setenv(name, "")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nothing/here")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PlatformError, match="there are no AWS credentials; set AWS_ACCESS_KEY_ID"):
        MturkPlatform(MturkSection())
    # Keys of a person: no session token comes with them, and an empty one isn't sent.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFORTESTSONLY0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-tests")
    asked = AWSRequest("GET", "https://mturk.example.org/", data=b"")
    SigV4Auth(boto3.Session().get_credentials(), "mturk-requester", "us-east-1").add_auth(asked)
    assert "Authorization" in asked.headers and "X-Amz-Security-Token" not in asked.headers


def test_nothing_secret_and_no_history_goes_into_the_image():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = {line for line in lines if line and not line.startswith("#")}
    # `**/` is any folder, the uppermost as well: .env lies beside the compose file.
    assert {".git", "**/.env", "**/.venv", "**/lab.key", "**/study.key", "**/*.db", "demo"} <= left_out
    made_of = [path for top in ("crowd_imi", "hit_templates", "stimuli") for path in (ROOT / top).rglob("*.*")]
    caches = re.compile(r"__pycache__|node_modules|\.egg-info")
    files = {path.relative_to(ROOT) for path in made_of if not caches.search(str(path))}
    folders = {folder for file in files for folder in file.parents}
    needed = [f"/{path.as_posix()}" for path in (*files, *folders)] + ["/pyproject.toml", "/README.md", "/LICENSE"]
    for pattern in left_out:
        assert [path for path in needed if fnmatch(path, f"/{pattern}") or fnmatch(path, pattern.replace("**/", "*/"))] == []


def test_the_image_runs_as_nobody_special_and_is_stopped_gracefully():
    assert instructions("USER") == ["imi"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    copied = [words.split()[0] for words in instructions("COPY") if "--from" not in words]
    assert copied == ["."]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_has_what_systemd_asks_for(name):
    found = unit(name)
    assert found.sections() == ["Unit", "Service", "Install"]
    assert found["Service"]["KillSignal"] == "SIGTERM" and found["Service"]["User"] == "imi"
    # It comes back with the machine, and after however many failures.
    assert found["Install"]["WantedBy"] == "multi-user.target" and found["Unit"]["StartLimitIntervalSec"] == "0"
    # A harvest that ends by itself has nothing left to do.
    assert found["Service"]["Restart"] == ("always" if name == "crowd-imi.service" else "on-failure")
    assert name in (DEPLOY.parent / "deploy.md").read_text(encoding="utf-8")


def test_every_container_comes_back_with_the_machine():
    # "on-failure" isn't enough: Docker doesn't start such a container when it is itself started again.
    assert {service["restart"] for service in COMPOSE["services"].values()} == {"unless-stopped"}


def test_the_databases_own_log_says_no_keys_values():
    # DETAIL: Key (platform_submission)=(…) already exists.
    assert COMPOSE["services"]["database"]["command"] == ["postgres", "-c", "log_error_verbosity=terse"]


def test_the_pages_get_their_time_to_end():
    # Longer than the server takes to end its requests.
    from crowd_imi.pages.server import GRACE_SECONDS

    assert int(unit("crowd-imi.service")["Service"]["TimeoutStopSec"]) > GRACE_SECONDS
    assert int(COMPOSE["services"]["pages"]["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS


def test_the_proxy_logs_no_request():
    text = re.sub(r"#.*", "", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"))
    assert text.count("{") == text.count("}")
    sites = text[text.index("{$DOMAIN}") :]
    assert "log" not in sites.split()
    assert "request delete" in text and "header_up -X-Forwarded-For" in sites
    # As large a request as the pages take.
    from crowd_imi.pages.app import LARGEST_REQUEST

    assert f"max_size {LARGEST_REQUEST // 1024}KB" in sites


def test_the_proxy_hides_nothing_that_the_pages_say_and_speaks_for_them_while_they_are_away():
    text = re.sub(r"#.*", "", (DEPLOY / "Caddyfile").read_text(encoding="utf-8"))
    assert "health_uri" not in text
    away = text[text.index("handle_errors 502 503 504") :]
    # 503 is among the statuses after which the page's scripts send again.
    assert re.search(r'respond "[^"]*Nothing is lost[^"]*" 503', away)
    assert "header Retry-After 10" in away and "header Refresh 10" in away
