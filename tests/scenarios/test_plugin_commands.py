"""`elemta plugin` against a running server: list, disable, enable, reload, diff."""

import json
import smtplib
from pathlib import Path

from server_process import Setting, elemta, serving

CODE = """
from elemta.plugin.api import Plugin, Reject, hook

class Saying(Plugin):
    @hook("rcpt")
    async def check(self, recipient):
        return Reject({text!r}) if recipient.startswith("root") else None
"""


def test_plugins_are_steered_while_mail_flows(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    setting = Setting(tmp_path)
    for name in ("real", "shadow"):
        (tmp_path / f"{name}.py").write_text(CODE.format(text=f"{name} one"))
        (tmp_path / f"{name}.py").chmod(0o644)
    setting.write(
        extra=f"""
[[plugins]]
name = "shadow"
path = "{tmp_path}/shadow.py"
shadow = true

[[plugins]]
name = "real"
path = "{tmp_path}/real.py"
"""
    )

    def command(*words: str, status: int = 0) -> str:
        done = elemta("plugin", *words, "-c", setting.file)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    with serving(setting.folder, setting.port, "-c", setting.file) as server:

        def refusal() -> str:
            with server.client() as client:
                try:
                    client.sendmail("a@c.example", "root@example.org", b"Subject: x\r\n\r\nhello\r\n")
                except smtplib.SMTPRecipientsRefused as refused:
                    return refused.recipients["root@example.org"][1].decode()
            return ""

        assert refusal().endswith("real one")
        (tmp_path / "real.py").write_text(CODE.format(text="two"))
        command("reload", "real")
        assert refusal().endswith("two")
        command("disable", "real")
        assert refusal() == ""
        listed = {each["name"]: each for each in json.loads(command("list", "--json"))}
        assert listed["real"]["standing"] == "disabled"
        assert (listed["shadow"]["standing"], listed["shadow"]["calls"]) == ("running", 3)
        (found,) = json.loads(command("diff", "shadow", "--json"))
        assert (found["would"], found["did"]) == ("reject", "continue")
        assert found["recipients"] == ["root@example.org"]
        assert "root@example.org" in command("diff")
        command("enable", "real")
        assert refusal().endswith("two")
        (tmp_path / "real.py").write_text("no Python")
        assert "SyntaxError" in command("reload", "real", status=1)
        assert "no plugin other" in command("enable", "other", status=1)
        assert refusal().endswith("two")
        assert server.stop() == 0
    assert "next start" in command("disable", "real")
    assert "disabled" in command("list")
