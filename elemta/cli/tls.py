"""`elemta tls check`, `elemta tls report` and `elemta tls self-signed`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .errors import BAD_CONFIG, NOT_DONE, Trouble
from .options import config_option, json_option, read_config

if TYPE_CHECKING:
    from elemta.config import CertificateConfig, Config
    from elemta.delivery import PolicyResults
    from elemta.tls import Certificate, TlsContexts

_DAY = 86400
_SOON = 14
"""Days before its end from which a certificate is pointed out."""


@click.group()
def tls() -> None:
    """Look at certificates and at what is offered with them."""


@tls.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Show names, dates and keys of the certificates, and what each listener offers.

    The exit status is 1 if a certificate has ended or is not valid yet, 78 if one cannot be used.
    """
    config = read_config(config_file)
    found = _certificates(config)
    contexts = _contexts(config)
    now = time.time()
    notes = list(_notes(config, found, now))
    report = {
        "certificates": [_as_json(certificate, now) for certificate in found],
        "listeners": [_offer(config, contexts, index) for index in range(len(config.listeners))],
        "notes": notes,
    }
    if as_json:
        import msgspec  # noqa: PLC0415

        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    else:
        _show(report)
    if any(not certificate.not_before <= now < certificate.not_after for certificate in found):
        raise Trouble(NOT_DONE, "a certificate is not valid now")


@tls.command()
@click.option("--domain", help="Only this domain.")
@config_option
@json_option
def report(domain: str | None, config_file: Path | None, as_json: bool) -> None:
    """Show how TLS with the hosts of other domains went, by day and policy (tls_reports.collect).

    What happened within the last minute may be missing.
    """
    from elemta.delivery import RESULTS_FILE, TlsResults  # noqa: PLC0415
    from elemta.runtime import SystemClock  # noqa: PLC0415

    config = read_config(config_file)
    troubles: list[str] = []
    path = config.state_dir / RESULTS_FILE
    results = TlsResults(path, SystemClock(), lambda _, detail: troubles.append(detail))
    if troubles:
        raise Trouble(NOT_DONE, *troubles)
    rows = [
        _result_as_json(day, each)
        for day in results.days()
        for each in results.of_day(day)
        if domain is None or each.policy.domain == domain.lower()
    ]
    if as_json:
        import msgspec  # noqa: PLC0415

        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
        return
    if not rows and not config.tls_reports.collect:
        click.echo("note: nothing is counted: set tls_reports.collect")
    _show_results(rows)


@tls.command("self-signed")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--certificate", type=click.Path(path_type=Path), default="fullchain.pem", show_default=True)
@click.option("--key", type=click.Path(path_type=Path), default="privkey.pem", show_default=True)
@click.option(
    "--days", type=click.IntRange(1, 36500), default=3650, show_default=True, help="How long it holds."
)
def self_signed(names: tuple[str, ...], certificate: Path, key: Path, days: int) -> None:
    """Make a certificate for NAMEs that nobody vouches for, to begin with.

    Names are in ASCII; addresses are taken, too. Files that are there are never overwritten.
    """
    import datetime  # noqa: PLC0415 - keeps `--help` quick

    from elemta.tls import make_self_signed, write_pair  # noqa: PLC0415

    try:
        pair = make_self_signed(names, days, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        write_pair(certificate, key, pair)
    except FileExistsError as error:
        raise Trouble(NOT_DONE, f"{error.filename} is there already; it was left as it is") from error
    except OSError as error:
        raise Trouble(NOT_DONE, f"{error.filename}: {error.strerror}") from error
    click.echo(f"The certificate is in {certificate}, its key in {key}.")


def _result_as_json(day: int, results: PolicyResults) -> dict[str, Any]:
    from elemta.runtime import rfc3339  # noqa: PLC0415

    return {
        "day": rfc3339(day * _DAY)[:10],
        "domain": results.policy.domain,
        "policy": results.policy.kind,
        "successful": results.successes,
        "failed": results.failed,
        "failures": [
            {
                "result": each.failure.result.value,
                "host": each.failure.host,
                "address": each.failure.address,
                "reason": each.failure.reason,
                "count": each.count,
            }
            for each in results.failures
        ],
    }


def _show_results(rows: list[dict[str, Any]]) -> None:
    from elemta.runtime import escape_text  # noqa: PLC0415

    from .console import table  # noqa: PLC0415

    cells = [
        [
            row["day"],
            row["domain"],
            row["policy"],
            str(row["successful"]),
            str(row["failed"]),
            escape_text(
                "; ".join(f"{each['count']} × {each['result']} {each['host']}" for each in row["failures"])
            ),
        ]
        for row in rows
    ]
    columns = ("day", "domain", "policy", "successful", "failed", "failures")
    table(columns, cells, right=("successful", "failed"))


def _pairs(config: Config) -> list[CertificateConfig]:
    from elemta.config import CertificateConfig  # noqa: PLC0415

    if config.tls.certificate is None:
        return []
    first = CertificateConfig(config.tls.certificate, config.tls.key or config.tls.certificate)
    return [first, *config.tls.certificates]


def _certificates(config: Config) -> list[Certificate]:
    """All certificates, each loaded by itself, so that all troubles are told at once."""
    from elemta.config import TlsConfig  # noqa: PLC0415
    from elemta.tls import TlsContexts, TlsFilesError  # noqa: PLC0415

    found: list[Certificate] = []
    troubles: list[str] = []
    for pair in _pairs(config):
        try:
            found += TlsContexts(TlsConfig(pair.certificate, pair.key)).certificates()
        except TlsFilesError as error:
            troubles.append(str(error))
    if troubles:
        raise Trouble(BAD_CONFIG, *troubles)
    return found


def _contexts(config: Config) -> TlsContexts:
    from elemta.tls import TlsContexts, TlsFilesError  # noqa: PLC0415

    try:
        return TlsContexts(config.tls)
    except TlsFilesError as error:  # the authorities of clients
        raise Trouble(BAD_CONFIG, str(error)) from error


def _notes(config: Config, found: list[Certificate], now: float) -> list[str]:
    notes = []
    if not found:
        notes.append("no certificate: set certificate and key in [tls]")
    for certificate in found:
        left = (certificate.not_after - now) / _DAY
        if 0 < left <= _SOON:
            notes.append(f"{certificate.path} ends in {left:.1f} days")
        if not certificate.names:
            notes.append(f"{certificate.path} is for no name")
        if certificate.end_point is None:
            notes.append(f"{certificate.path}: its signature allows no channel binding (SCRAM-SHA-256-PLUS)")
    if found and not any(certificate.is_for(config.hostname) for certificate in found):
        notes.append(f"no certificate is for our own name {config.hostname}")
    return notes


def _as_json(certificate: Certificate, now: float) -> dict[str, Any]:
    from elemta.runtime import rfc3339  # noqa: PLC0415

    return {
        "file": str(certificate.path),
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "key": certificate.key,
        "key_matches": True,  # else it could not have been loaded
        "from": rfc3339(certificate.not_before),
        "until": rfc3339(certificate.not_after),
        "days_left": round((certificate.not_after - now) / _DAY, 1),
        "fingerprint": certificate.fingerprint,
    }


def _offer(config: Config, contexts: TlsContexts, index: int) -> dict[str, Any]:
    """What one listener offers."""
    from elemta.config import ListenerTls  # noqa: PLC0415

    listener = config.listeners[index]
    context = contexts.for_listener(listener).server
    offer: dict[str, Any] = {
        "listener": listener.name,
        "address": str(listener.address),
        "tls": listener.tls.value,
        "client_certificates": listener.client_certificates,
        "versions": [],
        "suites": [],
    }
    if listener.tls is not ListenerTls.OFF and context is not None:
        offer["versions"] = [version for version in ("1.2", "1.3") if version >= config.tls.minimum_version]
        wanted = {f"TLSv{version}" for version in offer["versions"]}
        offer["suites"] = [suite["name"] for suite in context.get_ciphers() if suite["protocol"] in wanted]
    return offer


def _show(report: dict[str, Any]) -> None:
    from .console import table  # noqa: PLC0415

    if report["certificates"]:
        rows = [
            [
                each["file"],
                ", ".join(each["names"]),
                each["key"],
                each["from"][:10],
                each["until"][:10],
                str(each["days_left"]),
            ]
            for each in report["certificates"]
        ]
        table(("file", "names", "key", "from", "until", "days left"), rows, right=("days left",))
        click.echo()
    rows = [
        [
            each["listener"],
            each["address"],
            each["tls"],
            ", ".join(each["versions"]) or "-",
            "asked for" if each["client_certificates"] else "no",
            " ".join(each["suites"]) or "-",
        ]
        for each in report["listeners"]
    ]
    table(("listener", "address", "TLS", "versions", "client certificates", "suites"), rows)
    for note in report["notes"]:
        click.echo(f"note: {note}")
