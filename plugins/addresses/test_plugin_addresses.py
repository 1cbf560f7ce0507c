"""Maps of addresses, in a whole server."""

from __future__ import annotations

import time
from typing import Any

import pytest

from elemta.config import SettingsError
from elemta.testing import Mta, open_mta

HERE = __file__.removesuffix("test_plugin_addresses.py") + "plugin.py"
LOCAL = pytest.mark.mta(
    "[domains]\nlocal = ['example.org', 'old.example']\n[[routes]]\nmatch='local'\ntransport='smtp'\nhost='mx.example.org'"
)


def rules(*each: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.plugin(config={"rules": list(each)})


@LOCAL
@rules(
    {"match": "Boss@old.example", "to": "ada@example.org"},
    {"match": "@old.example", "to": "@example.org"},
)
async def test_addresses_of_a_domain_become_those_of_another(mta: Mta) -> None:
    await mta.send(
        ["BOSS@old.example", "bob@old.example", "carol@example.org"],
        sender="dave@OLD.example",
        headers={
            "From": '"dave@old.example" <dave@Old.Example> (not x@old.example)',
            "To": "boss@old.example, Bob =?utf-8?q?x=40old.example?= <bob@old.example>, Team: carol@example.org;",
            "X-Other": "dave@old.example",
        },
        account="dave@old.example",
    )
    letter = mta.letter()
    assert sorted(letter.recipients) == ["ada@example.org", "bob@example.org", "carol@example.org"]
    assert letter.sender == "dave@example.org"
    head = letter.content.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
    assert b'From: "dave@old.example" <dave@example.org> (not x@old.example)' in head
    assert (
        b"To: ada@example.org, Bob =?utf-8?q?x=40old.example?= <bob@example.org>, Team: carol@example.org;"
        in head
    )
    assert b"X-Other: dave@old.example" in head
    assert mta.counts() == {"rewritten": 1}


@rules({"match": "*", "to": "printer@example.org", "places": ["sender", "header"], "account": "printer"})
async def test_a_machine_gets_its_address(mta: Mta) -> None:
    for account in ("printer", "bob@example.org", None):
        await mta.send(
            sender="root@localhost.localdomain",
            headers={"From": "root@localhost.localdomain"},
            account=account,
        )
    printer, bob, stranger = mta.delivered
    assert (printer.sender, printer.header("From")) == ("printer@example.org", "printer@example.org")
    assert printer.recipients == ("bob@example.org",)
    assert bob.sender == stranger.sender == "root@localhost.localdomain"


@rules({"match": "@example.org", "to": "@else.example", "of": "strangers", "places": ["recipients"]})
async def test_mail_of_strangers_goes_elsewhere(mta: Mta) -> None:
    await mta.send()
    await mta.send(account="bob@example.org")
    assert [each.domain for each in mta.delivered] == ["else.example", "example.org"]


@rules({"match": "*", "to": "x@example.org", "places": ["sender"]})
async def test_a_notice_stays_one(mta: Mta) -> None:
    await mta.send(sender="")
    assert mta.letter().sender == ""


@rules({"match": "@client.example", "to": "@example.org"})
async def test_hostile_fields_do_no_harm(mta: Mta) -> None:
    for value in (
        '"' * 7999,
        '"\\' * 3999,
        "(" * 7999,
        "a@" * 3999,
        "=?" * 3999,
        "=?a" * 2600,
        "a" * 7999,
        "a." * 3999,
    ):
        text = "".join(f" {value[start : start + 900]}\r\n" for start in range(0, len(value), 900))
        began = time.process_time()
        for _ in range(3):
            (await mta.send(content=f"From: x\r\nTo:{text}\r\nx\r\n".encode())).assert_accepted()
        assert time.process_time() - began < 0.5, value[:10]


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"match": "bob", "to": "@example.org"}, "match is 'bob'"),
        ({"match": "@x.example", "to": "*"}, "to is '\\*'"),
        ({"match": "@-", "to": "@example.org"}, "match is '@-'"),
        ({"match": "*", "to": "@example.org", "places": ["nowhere"]}, "not one of sender"),
    ],
)
async def test_mistaken_rules_are_refused(
    autojump_clock: object, rule: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        async with open_mta({"path": HERE, "config": {"rules": [rule]}}):
            pass
