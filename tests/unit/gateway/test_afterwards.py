"""What waits until users have been answered."""

from __future__ import annotations

import asyncio

from traceai_vllm.gateway.afterwards import Afterwards


def test_all_is_done_in_order_after_a_moment() -> None:
    """Not at once; and what is added then has its turn too."""

    async def added() -> list[int]:
        done: list[int] = []
        last = asyncio.get_running_loop().create_future()
        afterwards = Afterwards()
        afterwards.add(lambda: done.append(1))
        afterwards.add(lambda: afterwards.add(lambda: last.set_result(None)))
        afterwards.add(lambda: done.append(2))
        assert done == []
        await last
        return done

    assert asyncio.run(added()) == [1, 2]


def test_nothing_is_left_at_the_end() -> None:
    """A gateway that ends does not wait for the moment, and nothing is done twice."""

    async def finished() -> list[int]:
        done: list[int] = []
        afterwards = Afterwards()
        afterwards.add(lambda: done.append(1))
        afterwards.finish()
        afterwards.finish()
        return done

    assert asyncio.run(finished()) == [1]
