"""A task that sleeps until there is something to do, or for so long."""

import asyncio

from switchboard_operator.broker.alarm import Alarm


async def test_a_ring_wakes_who_sleeps() -> None:
    alarm = Alarm(60)
    sleeping = asyncio.create_task(alarm.sleep())
    await asyncio.sleep(0)

    alarm.ring()
    alarm.ring()

    await sleeping


async def test_who_sleeps_wakes_after_so_long_in_any_case() -> None:
    alarm = Alarm(0.01)

    await alarm.sleep()
    await alarm.sleep()


async def test_a_ring_that_wakes_nobody_is_not_remembered() -> None:
    alarm = Alarm(60)
    alarm.ring()
    sleeping = asyncio.create_task(alarm.sleep())
    for _ in range(3):
        await asyncio.sleep(0)

    still = not sleeping.done()
    alarm.ring()
    await sleeping

    assert still


async def test_a_sleep_that_is_cancelled_leaves_nobody_asleep() -> None:
    alarm = Alarm(60)
    sleeping = asyncio.create_task(alarm.sleep())
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.wait({sleeping})
    again = asyncio.create_task(alarm.sleep())
    await asyncio.sleep(0)

    alarm.ring()
    await again

    assert sleeping.cancelled()
