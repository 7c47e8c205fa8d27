"""Lets models answer at the same time; what goes wrong with one stays with that one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

from app.client.client import Client
from app.tui.compare.comparison import Answer, Round
from app.tui.compare.selection import LOCAL
from utils.errors import HatcheryError

Connect: TypeAlias = Callable[[str], Awaitable[Client]]
"""The client of a server by its address; raises HatcheryError where there is none."""


async def answer_all(
    found: Round, answers: Sequence[Answer], connect: Connect, *, after: float = 0.0
) -> None:
    """After a number of seconds load every model, so that none has a head start, then let all
    write.

    Cancelled, it ends the requests and marks what was not finished as stopped.
    """
    try:
        await asyncio.sleep(after)
        await asyncio.gather(*(_load(answer, connect) for answer in answers))
        ready = [answer for answer in answers if answer.state == "waiting"]
        for answer in ready:
            answer.beside = len(ready) - 1
        await asyncio.gather(*(_write(found, one, connect) for one in ready))
    finally:
        for answer in answers:
            if answer.busy:
                answer.end("stopped")


async def _load(answer: Answer, connect: Connect) -> None:
    answer.state = "loading"
    try:
        client = await connect(answer.contender.where)
        if answer.contender.where == LOCAL:
            await client.load(answer.contender.model.id)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.state = "waiting"


async def _write(found: Round, answer: Answer, connect: Connect) -> None:
    try:
        client = await connect(answer.contender.where)
        async with aclosing(client.stream(found.ask(answer.contender))) as pieces:
            async for piece in pieces:
                answer.take(piece)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.end("done")
