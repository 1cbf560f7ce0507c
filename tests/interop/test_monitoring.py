"""deploy/monitoring: a real Prometheus scrapes a real server with real mail, and every panel of every dashboard has data."""

from __future__ import annotations

import contextlib
import json
import math
import smtplib
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from proofs.servers import require, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from ports import free_port
from server_process import RunningServer, environment, serving

pytestmark = pytest.mark.interop
ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana").glob("*.json"))
STRANGER = "127.0.0.2"
PASSWORD = "correct horse"
PLUGIN = """
from elemta.plugin.api import Hold, NoConfig, Plugin, Reject, hook

class Judge(Plugin[NoConfig]):
    @hook("rcpt")
    async def check(self, recipient):
        self.context.metrics.count("asked")
        if recipient.startswith("broken@"):
            raise RuntimeError("as it was told to")

    @hook("message")
    async def read(self, envelope):
        if str(envelope.sender).startswith("junk@"):
            return Reject("No junk")

    @hook("before_attempt")
    async def tried(self, envelope):
        if str(envelope.sender).startswith("odd@"):
            return Hold("odd")
"""
SETTINGS = """hostname = "mx.ours.example"
state_dir = "state"
[domains]
local = ["ours.example"]
[relay]
networks = ["127.0.0.1/32"]
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/cert.pem"
[auth]
users = "{folder}/users"
failure_delay = "0s"
[dns]
nameservers = ["127.0.0.1:{closed}"]
query_timeout = "1s"
timeout = "1s"
[limits]
sessions_per_client = 4
[policy.dns_lists]
action = "note"
[[policy.dns_lists.zones]]
zone = "list.example"
[policy.hello]
unqualified = "note"
[[plugins]]
name = "judge"
path = "{folder}/judge.py"
[[listeners]]
name = "mx"
address = "127.0.0.1:{smtp}"
tls = "starttls"
[[listeners]]
name = "submission"
address = "127.0.0.1:{submission}"
role = "submission"
tls = "starttls"
auth = "required"
[[routes]]
match = "ours.example"
transport = "discard"
[[routes]]
match = "far.example"
transport = "smtp"
host = "127.0.0.1"
port = {hop}
tls = "none"
[[routes]]
match = "*"
transport = "smtp"
host = "127.0.0.1"
port = {closed}
tls = "none"
[admin]
address = "127.0.0.1:{admin}"
"""


class _Hop:
    """A next hop that knows everybody but one."""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("unknown@"):
            return "550 5.1.1 nobody here has that name"
        if address.startswith("later@"):
            return "451 4.3.0 come again"
        envelope.rcpt_tos.append(address)
        return "250 ok"


class Sight:
    """A server, its Prometheus, and the port of the latter."""

    def __init__(self, prometheus: int, admin: int, token: str) -> None:
        self.prometheus, self.admin, self.token = prometheus, admin, token

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return json.load(response)["data"]

    def values(self, expression: str) -> list[float]:
        found = self.ask("query", query=expression)["result"]
        return [number for each in found if not math.isnan(number := float(each["value"][1]))]

    def metrics(self, token: str = "") -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/metrics")
        request.add_header("Authorization", f"Bearer {token or self.token}")
        with urllib.request.urlopen(request, timeout=20) as response:
            return bytes(response.read())


@pytest.fixture(scope="module")
def sight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sight]:
    require("prometheus", "promtool")
    folder = tmp_path_factory.mktemp("monitoring")
    ports = {name: free_port() for name in ("smtp", "submission", "admin", "closed")}
    hop = Controller(_Hop(), "127.0.0.1", free_port())
    trustme.CA().issue_cert("mx.ours.example").private_key_and_cert_chain_pem.write_to_path(
        f"{folder}/cert.pem"
    )
    (folder / "judge.py").write_text(PLUGIN)
    (folder / "judge.py").chmod(0o644)
    folder.chmod(0o755)
    config = folder / "elemta.toml"
    config.write_text(SETTINGS.format(folder=folder, hop=hop.port, **ports))
    subprocess.run(
        [sys.executable, "-m", "elemta", "user", "add", "-c", str(config), "anna@ours.example"],
        input=f"{PASSWORD}\n{PASSWORD}\n", text=True, check=True, capture_output=True, timeout=60,
        env=environment(), cwd=folder,
    )  # fmt: skip
    hop.start()
    try:
        with serving(folder, ports["smtp"], "-c", config, cwd=folder) as server:
            token = (folder / "state" / "admin.token").read_text().strip()
            with _prometheus(folder, ports["admin"]) as port:
                sight = Sight(port, ports["admin"], token)
                wait_until(lambda: sight.values("up") == [1.0], "the first scrape")
                for _ in range(2):  # a rise needs two scrapes that differ
                    _traffic(server, ports["submission"], sight)
                    _two_scrapes(sight)
                yield sight
    finally:
        hop.stop()


@contextlib.contextmanager
def _prometheus(folder: Path, admin: int) -> Iterator[int]:
    port = free_port()
    (folder / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
        f"rule_files: [{MONITORING}/elemta.rules.yml]\n"
        f"scrape_configs:\n- job_name: elemta\n  authorization: {{credentials_file: {folder}/state/admin.token}}\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{admin}']}}]\n"
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5),
            ):
                return True
            return False

        wait_until(ready, "Prometheus is ready", 60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _two_scrapes(sight: Sight) -> None:
    begin = time.time()
    wait_until(
        lambda: (
            sight.values("count_over_time(up[10s])") >= [2.0] and sight.values("timestamp(up)") > [begin + 2]
        ),
        "two more scrapes",
    )


def _send(client: smtplib.SMTP, sender: str, *recipients: str) -> None:
    with contextlib.suppress(smtplib.SMTPException):  # what is refused is counted as well
        client.sendmail(sender, list(recipients), b"From: a@b.example\r\nSubject: seen\r\n\r\nhello\r\n")


def _traffic(server: RunningServer, submission: int, sight: Sight) -> None:
    """Something of everything that is counted."""
    with server.client() as client:
        for sender in ("carl@away.example", "odd@away.example", "junk@away.example"):
            _send(client, sender, "anna@ours.example", "b@far.example")
        _send(client, "carl@ours.example", "unknown@far.example")
        _send(client, "carl@ours.example", "later@far.example")
        for number in range(16):
            _send(client, "carl@away.example", f"b{number}@nowhere.example")
        _send(client, "carl@away.example", "broken@ours.example")
    with smtplib.SMTP(
        "127.0.0.1", server.port, local_hostname="unqualified", timeout=10, source_address=(STRANGER, 0)
    ) as client:
        _send(client, "carl@away.example", "anna@ours.example")
        _send(client, "carl@away.example", "b@far.example")
    with smtplib.SMTP("127.0.0.1", submission, local_hostname="client.example", timeout=10) as client:
        client.starttls()
        with contextlib.suppress(smtplib.SMTPAuthenticationError):
            client.login("anna@ours.example", "guessed")
        client.login("anna@ours.example", PASSWORD)
        _send(client, "anna@ours.example", "b@far.example")
    with contextlib.ExitStack() as stack, contextlib.suppress(smtplib.SMTPException, OSError):
        for _ in range(8):  # more than one client may have
            stack.enter_context(server.client(STRANGER))
    with contextlib.suppress(urllib.error.HTTPError):
        sight.metrics("wrong")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data_after_real_traffic(sight: Sight, path: Path) -> None:
    empty = []
    asked = 0
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "60s").replace("$instance", ".*")
            asked += 1
            if not sight.values(query):
                empty.append(f"{panel['title']}: {query}")
    assert asked >= 8
    assert empty == []


def test_the_rules_are_evaluated_and_no_record_is_empty(sight: Sight) -> None:
    groups = sight.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    wait_until(
        lambda: all(r["health"] == "ok" for g in sight.ask("rules")["groups"] for r in g["rules"]),
        "all rules evaluated",
    )
    records = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(records) >= 8
    assert [name for name in records if not sight.values(name)] == []
    fired = {
        alert["labels"]["alertname"] for alert in sight.ask("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert not fired & {
        "ElemtaDown",
        "ElemtaNotReady",
        "ElemtaMailUnaccounted",
        "ElemtaStorageTrouble",
        "ElemtaCrashes",
    }


def test_promtool_has_nothing_against_metrics_after_real_traffic(sight: Sight) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=sight.metrics(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_names_of_all_metrics_begin_with_elemta(sight: Sight) -> None:
    names = {line.split()[2] for line in sight.metrics().decode().splitlines() if line.startswith("# TYPE ")}
    assert len(names) > 60
    assert [name for name in names if not name.startswith("elemta_")] == []


@pytest.mark.parametrize(
    "command",
    [("check", "rules", "elemta.rules.yml"), ("test", "rules", "elemta.rules.test.yml")],
    ids=" ".join,
)
def test_promtool_agrees_to_the_rules(command: tuple[str, ...]) -> None:
    require("promtool")
    done = subprocess.run(
        ["promtool", *command], check=False, cwd=MONITORING, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_explained() -> None:
    yaml = pytest.importorskip("yaml")
    groups = yaml.safe_load((MONITORING / "elemta.rules.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    tests, page = (
        (MONITORING / "elemta.rules.test.yml").read_text(),
        (ROOT / "docs" / "monitoring.md").read_text(),
    )
    assert len(alerts) > 20
    assert [name for name in alerts if f'alertname="{name}"' not in tests] == []
    assert [name for name in alerts if f"`{name}`" not in page] == []


def test_the_dashboards_are_what_their_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "dashboards", "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    assert len({json.loads(path.read_text())["uid"] for path in DASHBOARDS}) == 4
    assert all(panel["description"] for panel in panels if panel["type"] != "row")
