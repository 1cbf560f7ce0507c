"""Schemathesis asks a real server all that its own OpenAPI document offers, rightly and wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port
from proofs.servers import require

sys.path.insert(0, str(Path(__file__).parents[1] / "scenarios"))

from server_process import Setting, serving

pytestmark = pytest.mark.interop
SECONDS = 60
_HOOKS = """
import schemathesis

@schemathesis.serializer("message/rfc822")
def raw_message(context, value):
    return value if isinstance(value, bytes) else str(value).encode()
"""
# Not whether what fits its schema is taken: that a text is an address, or the name of something there is, no schema says.
_NOT_CHECKED = "positive_data_acceptance"
# It would end the server.
_NOT_ASKED = "^/api/v1/drain$"


def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    require("schemathesis")
    setting, admin = Setting(tmp_path), free_port()
    setting.write(extra=f'[admin]\naddress = "127.0.0.1:{admin}"\n')
    (tmp_path / "hooks.py").write_text(_HOOKS)
    with serving(tmp_path, setting.port, "-c", setting.file) as server:
        token = (setting.state / "admin.token").read_text().strip()
        arguments = [
            *(
                "run",
                f"http://127.0.0.1:{admin}/api/v1/openapi.json",
                "--header",
                f"Authorization: Bearer {token}",
            ),
            *("--exclude-path-regex", _NOT_ASKED, "--exclude-checks", _NOT_CHECKED),
            *("--phases", "coverage,fuzzing", "--max-examples", "5", "--max-time", str(SECONDS)),
            *("--rate-limit", "50/s"),  # as much as a token may, in the long run
            *("--continue-on-failure", "--generation-deterministic", "--no-shrink", "--warnings", "off"),
        ]
        done = subprocess.run(
            ["schemathesis", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path), "NO_COLOR": "1"},
            check=False,
            timeout=SECONDS + 120,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert server.process.poll() is None
        assert not server.events("task.crashed"), "a handler failed"
