"""The commands that need no server: their output, their errors, their exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import apsw
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


LOGINS = MINIMAL.replace('2525"', '2525"\nauth = "required"\ntls = "off"\nrole = "submission"')


def test_check_names_every_mistake_in_the_accounts() -> None:
    assert LOGINS != MINIMAL
    config = write(LOGINS + '[auth]\nusers = "users"\n')
    done = run("check", "-c", config)
    assert (done.exit_code, done.stderr) == (78, "elemta: users: cannot be read: No such file or directory\n")
    Path("users").write_text("# ours\nalice@example.org passwort=x\n\nbob@example.org send-as=@\n")
    Path("users").chmod(0o600)
    lines = run("check", "-c", config).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["users:2", "users:4"], lines
    Path("users").write_text("alice@example.org\n")
    assert run("check", "-c", config).exit_code == 0
    Path("users").chmod(0o644)
    assert "users: is open to others" in run("check", "-c", config).stderr


def test_check_reads_every_row_of_a_table() -> None:
    config = write(LOGINS + '[auth]\ndatabase = "accounts"\n')
    for name in ("alice", "bob", "carl"):
        assert run("user", "add", "-c", config, "--generate", f"{name}@example.org").exit_code == 0
    assert run("check", "-c", config).exit_code == 0
    connection = apsw.Connection("accounts")
    connection.execute("UPDATE accounts SET send_as = '@' WHERE name LIKE 'alice%'")
    connection.execute("UPDATE secrets SET hash = 'plain' WHERE account LIKE 'bob%'")
    connection.execute("INSERT INTO accounts (name) VALUES ('Dora@example.org')")
    connection.close()
    done = run("check", "-c", config)
    assert done.exit_code == 78
    for line, name in zip(done.stderr.splitlines(), ("Dora", "alice", "bob"), strict=True):
        assert line.startswith(f"elemta: accounts: account '{name}@example.org': ")
    assert "plain" not in done.stderr


def test_check_says_that_a_store_elsewhere_does_not_answer() -> None:
    open_auth = "[auth]\nloopback_without_tls = true\n"
    with socket.socket() as closed:  # bound, so nobody else's, and not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        done = run("check", "-c", write(LOGINS + f'{open_auth}[auth.http]\nurl = "{url}"\n'))
    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith("warning: auth.http: ")
    assert "nobody can log in" in done.stderr
    done = run("check", "-c", write(LOGINS + f'{open_auth}[auth.http]\nurl = "{url}"\nsecret = "absent"\n'))
    assert done.exit_code == 78
    assert "absent: cannot be read" in done.stderr


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


MAIN_CF = """myhostname = mx.example.org
mydestination = example.org
smtpd_milters = inet:localhost:8891
"""


def test_from_postfix_writes_what_check_takes_and_names_the_rest(tmp_path: Path) -> None:
    main, out = tmp_path / "main.cf", tmp_path / "elemta.toml"
    main.write_text(MAIN_CF)
    done = run("config", "from-postfix", str(main), "-o", str(out))
    assert done.exit_code == 0, done.output
    assert f"{main}:3: smtpd_milters: inet:localhost:8891 is not asked; SPF" in done.stderr
    assert f"wrote {out}" in done.stdout
    checked = run("check", "-c", str(out))
    assert checked.exit_code == 0, checked.output
    again = run("config", "from-postfix", str(main), "-o", str(out))
    assert again.exit_code == 1
    assert "exists; it was left as it is" in again.stderr
    assert run("config", "from-postfix", str(main)).stdout == out.read_text()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ("nonsense\n", 78, ":1: is not NAME = VALUE"),
        ("myhostname = mx.example.org\nrelayhost = [a b]\n", 1, "elemta.toml:"),
        (None, 1, "No such file"),
    ],
)
def test_from_postfix_says_what_is_wrong(tmp_path: Path, content: str | None, status: int, said: str) -> None:
    main = tmp_path / "main.cf"
    if content is not None:
        main.write_text(content)
    done = run("config", "from-postfix", str(main))
    assert done.exit_code == status
    assert said in done.stderr


def test_what_a_main_cf_says_is_shown_without_control_characters(tmp_path: Path) -> None:
    main = tmp_path / "main.cf"
    main.write_text("myhostname = mx.example.org\nmynetworks = \x1b[2Jevil\n")
    done = run("config", "from-postfix", str(main))
    assert "\x1b" not in done.output
