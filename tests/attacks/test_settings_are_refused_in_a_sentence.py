"""Settings that cannot be are refused in a sentence with exit code 2: no traceback, and nothing of their values."""

import os
import subprocess
import sys
from json import dumps
from pathlib import Path

import pytest

from app.settings import ApiKey, Scope, ServeSettings
from millirec.commands.serve import check_address
from millirec.settings import load_settings
from recsys.errors import InvalidInput
from tests.environment.deployment import free_port

SECRET = "hunter2"  # noqa: S105
BROKEN = {
    "a word for a number": ({"MILLIREC_SERVE__WORKERS": SECRET}, "serve.workers (MILLIREC_SERVE__WORKERS)"),
    "a number out of bounds": ({"MILLIREC_SERVE__PORT": "70000"}, "MILLIREC_SERVE__PORT"),
    "a misspelt name": ({"MILLIREC_STORE__URI": SECRET}, "MILLIREC_STORE__URI"),
    "a list that is no JSON": ({"MILLIREC_SERVE__KEYS": f"[{SECRET}"}, "MILLIREC_SERVE__"),
    "a section that is no table": ({"MILLIREC_SERVE": f'"{SECRET}"'}, "MILLIREC_SERVE"),
    "a key in place of its hash": (
        {"MILLIREC_SERVE__KEYS": dumps([{"name": "x", "sha256": SECRET, "scopes": ["admin"]}])},
        "serve.keys.0.sha256",
    ),
    "a store of another kind": ({"MILLIREC_STORE__URL": f"mysql://u:{SECRET}@db"}, "should be redis://"),
    "a store's port that is none": ({"MILLIREC_STORE__URL": f"redis://u:{SECRET}@db:port"}, "has a port"),
    "a password that is not encoded": ({"MILLIREC_STORE__URL": f"redis://u:{SECRET} x@db"}, "percent-encode it"),
    "a bucket of another kind": ({"MILLIREC_REGISTRY__URL": f"ftp://u:{SECRET}@db"}, "MILLIREC_REGISTRY__URL"),
    "a log of another kind": ({"MILLIREC_LOG__PATH": f"ftp://u:{SECRET}@db"}, "MILLIREC_LOG__PATH"),
    "a password for a broker": ({"MILLIREC_TOPIC__KAFKA__BOOTSTRAP": f"u:{SECRET}@k:1"}, "MILLIREC_TOPIC__KAFKA__BOOT"),
    "a broker with a scheme": ({"MILLIREC_TOPIC__KAFKA__BOOTSTRAP": f"kafka://{SECRET}:1"}, "should be host:port"),
    "a service of another kind": ({"MILLIREC_CONSOLE__API_URL": f"ftp://u:{SECRET}@db"}, "should be http://, https://"),
    "a service's address with an escape": ({"MILLIREC_CONSOLE__API_URL": f"http://\x1b{SECRET}"}, "cannot be printed"),
    "metrics of another kind": (
        {"MILLIREC_CONSOLE__METRICS_URLS": f'["ftp://{SECRET}"]'},
        "should be http://, https://",
    ),
    "no such file": ({"MILLIREC_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    "a folder for a file": ({"MILLIREC_CONFIG": "."}, "MILLIREC_CONFIG"),
    "no TOML": ({"MILLIREC_CONFIG": "broken.toml"}, "broken.toml"),
    "no text": ({"MILLIREC_CONFIG": "binary.toml"}, "binary.toml"),
}
COMMANDS = (
    ("serve", "--workers", "2"),
    ("consume",),
    ("train",),
    ("console",),
    ("doctor",),
    ("config",),
    ("versions", "list"),
    ("log", "tidy"),
)


def run(folder: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MILLIREC_")}
    return subprocess.run(
        [sys.executable, "-m", "millirec", *arguments],
        env={**inherited, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_a_sentence(done: subprocess.CompletedProcess[str], named: str) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert named in said
    assert "Traceback" not in said
    assert SECRET not in said
    assert len(said.strip().splitlines()) <= 3, said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "broken.toml").write_text(f'[store]\nurl = "redis://u:{SECRET}@db')
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00" + SECRET.encode())
    return tmp_path


@pytest.mark.parametrize("fault", BROKEN)
def test_a_refusal_names_the_setting(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, named = BROKEN[fault]
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput) as refused:
        load_settings()
    assert named in str(refused.value)
    assert SECRET not in str(refused.value)


def test_serve_says_it_and_ends(folder: Path) -> None:
    is_a_sentence(run(folder, {"MILLIREC_SERVE__WORKERS": SECRET}, "serve"), "MILLIREC_SERVE__WORKERS")
    is_a_sentence(run(folder, {"MILLIREC_SERVE__KEYS": f"[{SECRET}"}, "serve", "--workers", "2"), "MILLIREC_SERVE__")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_so_does_every_command(folder: Path, command: tuple[str, ...]) -> None:
    is_a_sentence(run(folder, {"MILLIREC_STORE__URL": f"mysql://u:{SECRET}@db"}, *command), "MILLIREC_STORE__URL")


def test_options_of_the_console_are_checked_like_its_settings(folder: Path) -> None:
    is_a_sentence(run(folder, {}, "console", "--api", f"ftp://u:{SECRET}@db"), "MILLIREC_CONSOLE__API_URL")
    is_a_sentence(run(folder, {}, "console", "--port", "70000"), "MILLIREC_CONSOLE__PORT")


def test_a_level_of_logs_that_is_none_is_refused(folder: Path) -> None:
    done = run(folder, {}, "--log-level", "loud", "config")
    assert done.returncode == 2
    assert "'warning'" in done.stderr
    assert "Traceback" not in done.stderr


def test_so_does_a_worker_that_finds_other_settings_than_its_parent(folder: Path) -> None:
    program = "from millirec.service import create; create()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MILLIREC_SERVE__WORKERS": SECRET},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    is_a_sentence(done, "MILLIREC_SERVE__WORKERS")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "192.0.2.7", "::ffff:192.0.2.7"])  # noqa: S104
def test_without_keys_nothing_listens_for_other_machines(host: str) -> None:
    with pytest.raises(InvalidInput, match=r"no keys.*millirec key.*--allow-anonymous"):
        check_address(ServeSettings(host=host, port=free_port()))


def test_serve_asks_before_it_listens(folder: Path) -> None:
    is_a_sentence(run(folder, {}, "serve", "--host", "0.0.0.0"), "millirec key")  # noqa: S104
    is_a_sentence(run(folder, {"MILLIREC_SERVE__HOST": "::"}, "serve", "--workers", "2"), "millirec key")


def test_a_spool_that_could_keep_nothing_is_refused_before_anybody_needs_it(folder: Path) -> None:
    """It was noticed in the first outage: events got 503, and the log filled with errors from the start."""
    (folder / "file").write_text("in the way")
    for spool, named in (("away/spool", "is its disk mounted?"), ("file", "File exists"), ("/proc/spool", "/proc")):
        done = run(folder, {"MILLIREC_SERVE__SPOOL": str(folder / spool)}, "serve", "--port", str(free_port()))
        is_a_sentence(done, "MILLIREC_SERVE__SPOOL")
        assert named in " ".join((done.stdout + done.stderr).split())
    assert not (folder / "away").exists()


def test_an_address_that_is_none_is_refused() -> None:
    for host in ("no.such.host.invalid", "", "x" * 300):
        with pytest.raises(InvalidInput, match=r"serve\.host"):
            check_address(ServeSettings(host=host, port=free_port()))


def test_a_bug_shows_no_password(folder: Path) -> None:
    program = (
        "import sys; sys.argv = ['millirec', 'config']\n"
        "import millirec.commands.config as command\n"
        "def broken(): raise RuntimeError('no connection to redis://u:hunter2@db and s3://b?x=1&sig=hunter2')\n"
        "command.load_settings = broken\n"
        "from millirec.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: no connection to redis://***@db" in done.stderr
    assert SECRET not in done.stderr.replace(program, "")


def test_with_keys_or_the_word_it_listens() -> None:
    key = ApiKey(name="ops", sha256="0" * 64, scopes=frozenset({Scope.ADMIN}))
    port = free_port()
    check_address(ServeSettings(host="0.0.0.0", port=port, keys=(key,)))  # noqa: S104
    check_address(ServeSettings(host="0.0.0.0", port=port, allow_anonymous=True))  # noqa: S104
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        check_address(ServeSettings(host=host, port=port))
