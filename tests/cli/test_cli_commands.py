"""The commands that need no server: their output, their errors, their exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import toml
from click.testing import CliRunner, Result

from elemta.cli import main
from elemta.cli.console import age, size
from elemta.config import load_config

MINIMAL = """
hostname = "mx.example.org"
[[listeners]]
name = "mx"
address = "127.0.0.1:2525"
[domains]
local = ["example.org"]
[[routes]]
match = "example.org"
transport = "maildir"
path = "mail/{domain}/{local_part}"
"""


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ELEMTA_CONFIG", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def write(text: str = MINIMAL) -> str:
    Path("elemta.toml").write_text(text)
    return "elemta.toml"


# config


def test_init_writes_a_file_that_passes_the_check_and_never_overwrites() -> None:
    done = run("config", "init", "conf/elemta.toml")
    assert done.exit_code == 0
    assert "conf/elemta.toml" in done.stdout
    assert load_config(Path("conf/elemta.toml")).hostname == "mx.example.org"
    assert run("check").exit_code == 0  # found without -c
    Path("conf/elemta.toml").write_text("mine")
    again = run("config", "init", "conf/elemta.toml")
    assert again.exit_code == 1
    assert again.stderr == "elemta: conf/elemta.toml exists; it was left as it is\n"
    assert Path("conf/elemta.toml").read_text() == "mine"


def test_init_without_a_file_prints_it() -> None:
    done = run("config", "init")
    assert done.exit_code == 0
    assert toml.loads(done.stdout)["hostname"] == "mx.example.org"
    assert list(Path().iterdir()) == []


def test_init_where_nothing_can_be_written_is_one_line() -> None:
    Path("file").write_text("")
    done = run("config", "init", "file/elemta.toml")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "file" in done.stderr


def test_show_prints_a_configuration_with_the_same_meaning() -> None:
    path = write()
    done = run("config", "show", "-c", path)
    assert done.exit_code == 0
    assert "[timeouts]" in done.stdout
    Path("shown.toml").write_text(done.stdout)
    assert load_config(Path("shown.toml")) == load_config(Path(path))


def test_the_schema_accepts_the_sample_and_refuses_unknown_settings() -> None:
    done = run("config", "schema")
    assert done.exit_code == 0
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    sample = toml.loads(run("config", "init").stdout)
    assert list(validator.iter_errors(sample)) == []
    assert list(validator.iter_errors({**sample, "hotsname": "x"}))


# check


def test_check_shows_what_would_happen() -> None:
    done = run("check", "-c", write())
    assert done.exit_code == 0
    assert done.stderr == ""
    for part in ("mx.example.org", "127.0.0.1:2525", "mail/{domain}/{local_part}", "A session ends after 2h"):
        assert part in done.stdout
    assert [path.name for path in Path().iterdir()] == ["elemta.toml"]  # it made nothing


def test_check_as_json() -> None:
    done = run("check", "--json", "-c", write())
    assert done.exit_code == 0
    assert "mx.example.org" in json.dumps(json.loads(done.stdout))


def test_check_names_every_mistake_with_its_line() -> None:
    path = write('hostname = "mx.example.org"\nhost = 1\n\n[queue]\nlease = "soon"\n')
    done = run("check", "-c", path)
    assert done.exit_code == 78
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert any(line.startswith("elemta: elemta.toml:2: ") and "host" in line for line in lines)
    assert any(line.startswith("elemta: elemta.toml:5: ") and "lease" in line for line in lines)


def test_check_without_listeners_is_not_done() -> None:
    done = run("check", "-c", write('hostname = "mx.example.org"\n'))
    assert done.exit_code == 1
    assert "[[listeners]]" in done.stderr
    assert "mx.example.org" in done.stdout


def test_check_looks_at_the_certificate() -> None:
    done = run("check", "-c", write(MINIMAL + '[tls]\ncertificate = "absent.pem"\nkey = "absent.key"\n'))
    assert done.exit_code == 78
    assert "absent.pem" in done.stderr


def test_no_configuration_anywhere_says_how_to_make_one() -> None:
    if os.access("/etc/elemta/elemta.toml", os.F_OK):
        pytest.skip("this machine has a configuration")
    for command in (("run",), ("check",), ("status",), ("queue", "list"), ("config", "show")):
        done = run(*command)
        assert done.exit_code == 78, command
        assert "elemta config init" in done.stderr


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEMTA_CONFIG", write())
    assert run("check").exit_code == 0


# run


def test_run_without_listeners_is_refused() -> None:
    done = run("run", "-c", write('hostname = "mx.example.org"\n'))
    assert done.exit_code == 78
    assert done.stderr == "elemta: no [[listeners]]: there is nothing to run\n"
    assert not Path("var").exists()


# Wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run", "--nonsense"),
        ("run", "--dev", "--port", "70000"),
        ("run", "--dev", "--port", "x"),
        ("config", "show", "too", "many"),
        ("queue", "nonsense"),
        ("queue", "list", "--limit", "0"),
        ("queue", "list", "--state", "lost"),
        ("queue", "show"),
        ("queue", "hold", "--dev"),
        ("queue", "remove", "--dev", "--json"),
        ("send",),
        ("send", "--to", "a@example.org", "--server", "no port"),
        ("send", "--to", "a@example.org", "--file", "absent"),
        ("send", "--to", "a@example.org", "--count", "0"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Usage: " in done.stderr
    assert "Error: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command",
    ["", "run", "check", "config", "config init", "queue", "queue list", "queue hold", "status", "send"],
)
def test_every_command_has_help(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Usage: " in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from elemta.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    heavy = {'trio', 'apsw', 'rich', 'starlette', 'dns', 'structlog', 'prometheus_client', 'asyncio'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert done.stderr == "[]\n"


# What people see


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (599, "9m59s"),
        (600, "10m"),
        (3600, "1h00m"),
        (180000, "2d2h"),
        (-5, "5s"),
    ],
)
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 * 1024, "150 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_size(octets: int, text: str) -> None:
    assert size(octets) == text
