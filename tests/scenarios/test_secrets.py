"""Nothing that a server writes at its most talkative has a password, a token or a key in it."""

import base64
import json
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from ports import free_port
from server_process import Setting, elemta, serving, wait_for

from elemta.config import SigningAlgorithm
from elemta.policy import make_key, write_key

ACCOUNT = "anna@example.org"
WRONG = "a-wrong-guess-of-a-stranger"


def forms(secret: str) -> Iterator[str]:
    """As it may stand in a log: plain, and in base64 at each of its three places."""
    yield secret
    for lead in range(3):
        coded = base64.b64encode(b"\0" * lead + secret.encode()).decode()
        yield coded[4 if lead else 0 : len(coded) // 4 * 4 - 4]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_secret_is_in_logs_events_or_output(tmp_path: Path, level: str) -> None:
    port = free_port()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    write_key(tmp_path / "sign.pem", make_key(SigningAlgorithm.RSA_SHA256, 1024))
    setting = Setting(tmp_path)
    setting.write(
        extra=f"""
[logging]
level = "{level}"
[[listeners]]
name = "submission"
address = "127.0.0.1:{port}"
role = "submission"
tls = "implicit"
auth = "required"
[tls]
certificate = "{tmp_path}/cert.pem"
key = "{tmp_path}/cert.pem"
[auth]
users = "{tmp_path}/users"
failure_delay = "0s"
[[signing]]
domain = "example.org"
selector = "mail"
key = "{tmp_path}/sign.pem"
"""
    )
    made = elemta("user", "add", "-c", setting.file, "--generate", "--json", ACCOUNT)
    password = str(json.loads(made.stdout)["password"])
    trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    with serving(tmp_path, setting.port, "-c", setting.file) as server:
        for mechanism in ("PLAIN", "LOGIN"):
            with smtplib.SMTP_SSL("localhost", port, context=trust) as client:
                client.ehlo()
                client.user, client.password = ACCOUNT, WRONG
                method = client.auth_plain if mechanism == "PLAIN" else client.auth_login
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.auth(mechanism, method)
                client.password = password
                client.auth(mechanism, method)
                client.sendmail(
                    ACCOUNT, ["bob@example.org"], b"From: " + ACCOUNT.encode() + b"\r\n\r\nbody of mine\r\n"
                )
        with smtplib.SMTP_SSL("localhost", port, context=trust) as client:  # a password where none belongs
            client.ehlo()
            client.docmd("AUTH", f"NONSENSE {base64.b64encode(password.encode()).decode()}")
            client.docmd("AUTH PLAIN", base64.b64encode(f"\0{ACCOUNT}\0{password}\0more".encode()).decode())
        wait_for(lambda: len(server.events("message.signed")) == 2, "both are signed")
        token = (setting.state / "admin.token").read_text().strip()
        assert server.stop() == 0
        written = server.log.read_text() + server.output.read_text()
    key = (tmp_path / "sign.pem").read_text().splitlines()[1]
    tls_key = (tmp_path / "cert.pem").read_text().splitlines()[1]
    stored = (tmp_path / "users").read_text().split()
    assert ACCOUNT in written
    for name, secret in (("password", password), ("guess", WRONG), ("token", token)):
        assert not [form for form in forms(secret) if form in written], name
    assert key not in written
    assert tls_key not in written
    assert not [word for word in stored if len(word) > 30 and word in written]
    assert "body of mine" not in written
    shown = elemta("config", "show", "-c", setting.file)
    assert not [form for form in forms(password) if form in shown.stdout]
