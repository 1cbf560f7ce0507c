"""The public test suite of RFC 7208, which the source archive of pyspf has, through our resolver and our limits."""

import ipaddress
import os
from pathlib import Path
from typing import Any

import pytest
from pypi_source import source_of

from elemta.dns import RecordKind, normalize_name
from elemta.mail import Result
from elemta.policy.lookups import evaluate
from elemta.policy.spf_query import SpfEvaluation, SpfQuestion
from elemta.testing.dns import FakeResolver

yaml = pytest.importorskip("yaml", reason="no PyYAML, which reads the suite")

ARCHIVE = "pyspf==2.0.14"
CASES = 203


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The scenarios. PYSPF_SOURCE names an unpacked archive."""
    given = os.environ.get("PYSPF_SOURCE")
    folder = Path(given) / "test" if given else source_of(request, ARCHIVE, "test", tmp_path_factory)
    text = (folder / "rfc7208-tests.yml").read_bytes()
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def resolver_of(zonedata: dict[str, list[Any]]) -> FakeResolver:
    """The zone of a scenario. `TIMEOUT` in a name means all kinds that stand not before it."""
    resolver = FakeResolver()
    for name, entries in zonedata.items():
        key = normalize_name(name)
        if key is None:
            continue
        kinds: dict[str, list[Any]] = {}
        own_texts = any(isinstance(entry, dict) and "TXT" in entry for entry in entries)
        for entry in entries:
            if entry == "TIMEOUT":
                resolver.failing |= {(key, str(kind)) for kind in RecordKind if str(kind) not in kinds}
                continue
            for kind, value in entry.items():
                if value == "TIMEOUT":
                    resolver.failing.add((key, kind))
                elif kind in ("TXT", "SPF"):
                    if (kind == "TXT" or not own_texts) and value != "NONE":
                        text = value if isinstance(value, str) else "".join(value)
                        kinds.setdefault("TXT", []).append(text.encode())
                elif kind == "MX":
                    kinds.setdefault(kind, []).append(tuple(value))
                elif kind == "AAAA":
                    kinds.setdefault(kind, []).append(str(ipaddress.ip_address(value)))
                else:
                    kinds.setdefault(kind, []).append(value)
        resolver.zone.setdefault(key, {}).update({kind: tuple(values) for kind, values in kinds.items()})
    return resolver


def question_of(case: dict[str, Any]) -> SpfQuestion:
    address = ipaddress.ip_address(case["host"])
    sender, hello = case["mailfrom"], case["helo"]
    local_part, at, domain = sender.partition("@") if sender else ("", "@", hello)
    if not at:
        local_part, domain = "", sender
    return SpfQuestion(address, domain, local_part or "postmaster", hello=hello)


@pytest.mark.deadline(60)
async def test_every_case_of_the_suite(suite: list[dict[str, Any]]) -> None:
    wrong = []
    count = 0
    for scenario in suite:
        resolver = resolver_of(scenario["zonedata"])
        resolver.failing |= {"error.example.com"}
        for name, case in scenario["tests"].items():
            count += 1
            answer = await evaluate(SpfEvaluation(question_of(case)).run, resolver)
            expected = case["result"] if isinstance(case["result"], list) else [case["result"]]
            explanation = answer.explanation or "DEFAULT"
            said = case.get("explanation")
            if answer.result not in expected or (
                said is not None and answer.result is Result.FAIL and said != explanation
            ):
                wrong.append((name, answer, expected, said))
    assert not wrong
    assert count == CASES
