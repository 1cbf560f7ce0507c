"""RCPT where a table in SQLite says who exists."""

from pathlib import Path

import attrs
import pytest
from inbound_bed import FakeSpool, make_config, open_bed

from elemta.inbound.injection import NotTaken, Wishes
from elemta.mail import NULL_PATH, parse_mailbox
from elemta.routing import edit_recipients
from elemta.runtime.threads import in_place


def table_config(folder: Path):
    table = folder / "recipients.sqlite"
    with edit_recipients(table, "+") as change:
        change.put("alice@ours.example")
        change.put("team@ours.example", "alice, far@elsewhere.example")
    config = make_config()
    return table, attrs.evolve(config, domains=attrs.evolve(config.domains, table=table))


async def test_who_is_in_the_table_exists_and_changes_hold_at_once(autojump_clock, tmp_path):
    in_place.set(True)
    table, config = table_config(tmp_path)
    async with open_bed(config, spool=FakeSpool()) as bed:
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        assert (await client.say("RCPT TO:<bob@ours.example>"))[:9] == "550 5.1.1"
        with edit_recipients(table, "+") as change:
            change.put("bob@ours.example")
        assert (await client.say("RCPT TO:<bob@ours.example>"))[:3] == "250"
        await client.say("RSET")
        await client.begin("a@else.example", ["bob@ours.example", "team@ours.example"])
        assert (await client.data())[:3] == "250"
        [(envelope, *_)] = bed.spool.stored.values()
        assert [str(each.mailbox) for each in envelope.recipients] == [
            "bob@ours.example",
            "alice@ours.example",
            "far@elsewhere.example",
        ]


async def test_without_the_table_nobody_is_refused_for_good(autojump_clock, tmp_path):
    in_place.set(True)
    table, config = table_config(tmp_path)
    async with open_bed(config, spool=FakeSpool()) as bed:
        away = table.rename(tmp_path / "away")
        client = bed.dial()
        await client.hello()
        await client.say("MAIL FROM:<a@else.example>")
        for name in ("alice", "nobody"):
            assert (await client.say(f"RCPT TO:<{name}@ours.example>"))[:9] == "450 4.3.0"
        away.rename(table)
        assert (await client.say("RCPT TO:<alice@ours.example>"))[:3] == "250"


@pytest.mark.parametrize(("name", "is_taken"), [("alice", True), ("nobody", False)])
async def test_a_program_is_told_at_the_end_who_does_not_exist(
    autojump_clock, tmp_path, name: str, is_taken: bool
):
    in_place.set(True)
    _, config = table_config(tmp_path)
    async with open_bed(config, spool=FakeSpool()) as bed:
        wishes = Wishes(NULL_PATH, [parse_mailbox(f"{name}@ours.example")], "program", "192.0.2.9")
        injection = bed.listeners.begin_injection(wishes, 100)
        await injection.write(b"Subject: x\r\n\r\nhello\r\n")
        if is_taken:
            await injection.finish()
        else:
            with pytest.raises(NotTaken, match=r"550 5\.1\.1"):
                await injection.finish()
        assert len(bed.spool.stored) == is_taken


async def test_a_table_that_a_reload_takes_away_is_missed_by_no_message(autojump_clock, tmp_path):
    in_place.set(True)
    _, config = table_config(tmp_path)
    async with open_bed(config, spool=FakeSpool()) as bed:
        wishes = Wishes(NULL_PATH, [parse_mailbox("nobody@ours.example")], "program", "192.0.2.9")
        injection = bed.listeners.begin_injection(wishes, 100)
        await injection.write(b"Subject: x\r\n\r\nhello\r\n")
        bed.listeners._services.router.replace(make_config())
        await injection.finish()
        assert len(bed.spool.stored) == 1
