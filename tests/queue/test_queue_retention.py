"""What becomes of messages is known for as long as the configuration says."""

from __future__ import annotations

import attrs
import trio
from queue_bed import NEVER, answers, config_with, open_bed

from elemta.spool import RecipientState


async def test_a_delivered_message_is_known_until_its_time_is_over(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(config=config_with(retention=600.0)) as bed:
            message = await bed.accept("a@x.example")
            await trio.sleep(500)
            history = await bed.spool.history(message)
            assert history is not None
            assert history.ended is not None
            assert [recipient.state for recipient in history.recipients] == [RecipientState.DELIVERED]
            await trio.sleep(200)
            assert await bed.spool.history(message) is None
            assert (await bed.spool.totals()).delivered == 1


async def test_of_many_the_last_ones_are_known(autojump_clock: object) -> None:
    with trio.fail_after(10**6):
        async with open_bed(config=config_with(retention_messages=2)) as bed:
            messages = []
            for _ in range(4):
                messages.append(await bed.accept("a@x.example"))
                await trio.sleep(1)
            await trio.sleep(100)
            known = [await bed.spool.history(message) is not None for message in messages]
            assert known == [False, False, True, True]


async def test_without_retention_nothing_is_kept_and_a_reload_drops_what_was(autojump_clock: object) -> None:
    config = config_with()
    with trio.fail_after(10**6):
        async with open_bed(answers(NEVER), config=config) as bed:
            message = await bed.accept("a@x.example", sender=None)
            await trio.sleep(1)
            assert await bed.spool.history(message) is not None
            bed.queue.replace(attrs.evolve(config, queue=attrs.evolve(config.queue, retention=0.0)))
            later = await bed.accept("a@x.example", sender=None)
            await trio.sleep(1)
            assert await bed.spool.history(later) is None
            await trio.sleep(100)
            assert await bed.spool.history(message) is None
            assert (await bed.spool.totals()).ended == 0
