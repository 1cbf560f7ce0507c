"""The compose file and the image: hardened throughout, and their configurations can be used."""

from __future__ import annotations

from pathlib import Path

import yaml

from elemta.config import load_config

ROOT = Path(__file__).parent.parent.parent


def test_every_service_is_hardened_and_bounded() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {"elemta", "rspamd", "dovecot", "prometheus", "client"} <= services.keys()
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] > 0, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "what is for trying out is not for the internet"


def test_files_that_are_mounted_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source


def test_configurations_are_right() -> None:
    stack = load_config(ROOT / "deploy/compose/elemta.toml")
    assert {listener.address.port for listener in stack.listeners} == {25, 587}
    image = load_config(ROOT / "deploy/docker/elemta.toml")
    assert {listener.address.port for listener in image.listeners} == {25}


def test_the_image_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    for path in copied:
        top = path.split("/")
        assert any(f"!{'/'.join(top[:length])}" in ignored for length in range(1, len(top) + 1)), path
