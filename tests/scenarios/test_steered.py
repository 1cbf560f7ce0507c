"""What operators set while the server runs holds at once, is shown, and is there after a restart."""

from __future__ import annotations

import json
from pathlib import Path

from server_process import Setting, elemta, serving


def test_limits_and_suppressed_addresses_outlive_a_restart(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.write()
    config = ("-c", setting.file)
    hop = f"smtp:[127.0.0.1]:{setting.closed}"
    with serving(setting.folder, setting.port, *config) as server:
        done = elemta(
            "destinations", "limit", "far.example", "--concurrency", "2", "--reason", "slow", *config
        )
        assert done.stdout == f"{hop}: concurrency 2\n"
        assert elemta("suppression", "add", "Bob@far.example", "--why", "asked us", *config).returncode == 0
        assert f"limits set for {hop}" in elemta("status", *config).stdout
        changes = [event["operation"] for event in server.events("admin.changed")]
        assert changes == ["changeDestinationLimits", "addSuppression"]
        assert server.stop() == 0
    with serving(setting.folder, setting.port, *config) as server:
        [limits] = json.loads(elemta("status", "--json", *config).stdout)["limits"]
        assert (limits["route"], limits["limits"]) == (hop, {"concurrency": 2})
        assert limits["reason"].startswith("slow (")
        explained = json.loads(elemta("explain", "route", "--json", "x@far.example", *config).stdout)
        assert explained["routes"][0]["limits"]["connections"] == 2
        assert explained["routes"][0]["shaping"][0] == f"set for {hop}"
        assert elemta("suppression", "export", *config).stdout == "bob@far.example  # asked us\n"
        assert elemta("destinations", "unlimit", "far.example", *config).returncode == 0
        assert json.loads(elemta("status", "--json", *config).stdout)["limits"] == []
        assert server.stop() == 0
