"""Rules about the header, in a whole server."""

from __future__ import annotations

from typing import Any

import pytest

from elemta.config import SettingsError
from elemta.plugin.api import HeaderAction
from elemta.testing import Mta, open_mta
from elemta.testing.kit import OWN

HERE = __file__.removesuffix("test_plugin_headers.py") + "plugin.py"


def rules(*each: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.plugin(config={"rules": list(each)})


@rules(
    {"action": "add", "name": "X-Came-From", "value": "{peer} ({hello}), {sender}"},
    {"action": "insert", "name": "X-Top", "value": "1"},
    {"action": "add", "name": "Subject", "value": "none", "missing": True},
    {"action": "add", "name": "Organization", "value": "Example", "missing": True},
)
async def test_fields_are_added(mta: Mta) -> None:
    await mta.send(peer="198.51.100.9", hello="c.example")
    letter = mta.letter()
    assert letter.header("X-Came-From") == "198.51.100.9 (c.example), alice@client.example"
    assert letter.headers("Subject") == ["Hello"]
    assert letter.header("Organization") == "Example"
    lines = letter.content.split(b"\r\n")
    assert lines.index(b"X-Top: 1") < lines.index(b"Subject: Hello")


@rules(
    {"action": "remove", "name": "X-Mailer"},
    {"action": "remove", "name": "Received", "pattern": r"from \S+\.internal"},
    {"action": "replace", "name": "Subject", "pattern": "^(?i:re: *)+(.*)", "value": "Re: {1}"},
    {"action": "replace", "name": "Subject", "pattern": "^(?!.*list)", "value": "[list] {value}"},
)
async def test_fields_are_removed_and_rewritten(mta: Mta) -> None:
    await mta.send(
        content="Received: from a.internal by b\nX-Mailer: x\nReceived: from c.example by d\n"
        "Received: from e.internal by f\nx-mailer: y\nSubject: RE: re:Re: Hello\n\nx\n"
    )
    letter = mta.letter()
    assert letter.headers("X-Mailer") == []
    assert [each for each in letter.headers("Received") if "from c.example" in each] == [
        "from c.example by d"
    ]
    assert not [each for each in letter.headers("Received") if "internal" in each]
    assert letter.header("Subject") == "[list] Re: Hello"


@rules(
    {"action": "insert", "name": "X-External", "value": "yes", "of": "strangers"},
    {"action": "remove", "name": "User-Agent", "of": "own"},
)
async def test_rules_are_about_our_own_mail_or_that_of_strangers(mta: Mta) -> None:
    for peer in ("198.51.100.9", OWN):
        await mta.send(headers={"User-Agent": "x"}, peer=peer)
    await mta.send(headers={"User-Agent": "x"}, account="bob@example.org")
    stranger, own, account = mta.delivered
    assert (account.header("X-External"), account.header("User-Agent")) == (None, None)
    assert (stranger.header("X-External"), stranger.header("User-Agent")) == ("yes", "x")
    assert (own.header("X-External"), own.header("User-Agent")) == (None, None)


@rules(
    {
        "action": "add",
        "name": "X-Bulk",
        "value": "1",
        "if_header": "Precedence",
        "if_pattern": "(?i)bulk|list",
    },
    {
        "action": "replace",
        "name": "Reply-To",
        "pattern": "(?P<who>.*)",
        "value": "{who}, list@example.org",
        "if_header": "X-Bulk",
    },
)
async def test_a_rule_may_depend_on_another_field_and_sees_what_those_before_did(mta: Mta) -> None:
    await mta.send(headers={"Precedence": "Bulk", "Reply-To": "a@client.example"})
    await mta.send(headers={"Reply-To": "a@client.example"})
    bulk, other = mta.delivered
    assert (bulk.header("X-Bulk"), bulk.header("Reply-To")) == ("1", "a@client.example, list@example.org")
    assert (other.header("X-Bulk"), other.header("Reply-To")) == (None, "a@client.example")


@rules({"action": "replace", "name": "Subject", "value": "x{value}"}, {"action": "remove", "name": "X-Evil"})
async def test_what_strangers_write_stays_in_its_field(mta: Mta) -> None:
    await mta.send(content=b"Subject: a\r\n b\0{sender}\r\nX-Evil: 1\r\nFrom: a@b.example\r\n\r\nx\r\n")
    assert mta.delivered == []  # a NUL is refused by the server itself
    await mta.send(content=b"Subject: a\r\n b {sender}\r\nX-Evil: 1\r\nFrom: a@b.example\r\n\r\nx\r\n")
    letter = mta.letter()
    assert letter.header("Subject") == "xa b {sender}"
    assert letter.header("X-Evil") is None


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"action": "remove", "name": "X", "pattern": "("}, r"pattern is no regular expression"),
        ({"action": "add", "name": "X Y", "value": "1"}, "no name of a header field"),
        ({"action": "add", "name": "X", "pattern": "x"}, "no field that the pattern could be about"),
        ({"action": "remove", "name": "X", "missing": True}, "missing does not go with remove"),
        ({"action": "add", "name": "X", "value": "{nonsense}"}, r"there is no \{nonsense\}"),
        ({"action": "replace", "name": "X", "pattern": "(a)", "value": "{2}"}, r"there is no \{2\}"),
        ({"action": "burn", "name": "X"}, "not one of add"),
    ],
)
async def test_mistaken_rules_are_refused(
    autojump_clock: object, rule: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        async with open_mta({"path": HERE, "config": {"rules": [rule]}}):
            pass


def test_all_actions_are_known() -> None:
    assert {each.value for each in HeaderAction} == {"add", "insert", "remove", "replace"}
