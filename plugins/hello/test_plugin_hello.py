"""The smallest plugin, in a whole server."""

from elemta.testing import Mta


async def test_nobody_gets_no_mail_and_others_do(mta: Mta) -> None:
    sent = await mta.send(["nobody@example.org", "bob@example.org"])
    assert sent.accepted
    assert str(sent.refused["nobody@example.org"]) == "550 5.7.1 Hello, nobody reads this"
    assert mta.letter().recipients == ("bob@example.org",)


async def test_mail_to_nobody_alone_is_rejected(mta: Mta) -> None:
    sent = await mta.send("nobody@example.org")
    sent.assert_rejected("nobody reads this", code=550)
    assert mta.delivered == []
