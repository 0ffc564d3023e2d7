"""Publishing to JetStream with many messages on their way. nats-py's own `publish_async` (2.16) raises a
refusal in its reply handler and leaves the future without an answer; ours hands it over."""

from __future__ import annotations

import asyncio
from itertools import count

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

from dms.domain.decoding import UNREADABLE
from dms.errors import Unavailable


class Refusal(Exception):
    """JetStream did not store the message. code: its err_code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"NATS refused an event: {description} ({code})")
        self.code = code


class _Error(Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Answer(Struct, frozen=True):
    seq: int = 0
    error: _Error | None = None


class Publisher:
    """On one connection. `start` first."""

    def __init__(self, client: Client, inbox: str) -> None:
        """inbox: subject under which answers come; nobody else's."""
        self._client, self._inbox = client, inbox
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._numbers = count(1)

    async def start(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[int]:
        """Sends; the future is the sequence that the message got, or fails with Refusal or Unavailable.
        It stays without an answer when the connection breaks."""
        token = str(next(self._numbers))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        answer.add_done_callback(lambda done: self._over(token, done))
        await self._client.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
        return answer

    def _over(self, token: str, answer: asyncio.Future[int]) -> None:
        self._waiting.pop(token, None)
        if not answer.cancelled():
            answer.exception()  # seen: the first error of several speaks for those behind it

    async def _on_answer(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if not message.data:
            answer.set_exception(Unavailable("JetStream does not answer: no stream takes this subject now"))
            return
        try:
            found = msgspec.json.decode(message.data, type=_Answer)
        except UNREADABLE as error:
            answer.set_exception(Unavailable(f"JetStream answered with something unreadable: {error}"))
            return
        if found.error is not None:
            answer.set_exception(Refusal(found.error.err_code, found.error.description))
        else:
            answer.set_result(found.seq)
