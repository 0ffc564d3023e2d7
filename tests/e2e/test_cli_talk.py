"""`nunet send-file`, `accept-file`, `file`, `chat` and `peer default` as two users type them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures import prepared
from tests.fixtures.dms import Dms
from tests.fixtures.file_pair import Pair
from tests.fixtures.network import environment
from tests.fixtures.terminal import terminal

pytestmark = pytest.mark.slow


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    try:
        await pair.start()
        yield pair
    finally:
        pair.end()


def command(dms: Dms, *args: str) -> list[str]:
    return [sys.executable, "-m", "dms.cli", "--url", dms.url, *args]


async def nunet(dms: Dms, *args: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
    """(standard output, standard error)"""
    done = await asyncio.to_thread(prepared.run, ["--url", dms.url, *args], environment(), stdin)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


async def until_offered(pair: Pair, count: int = 1) -> None:
    async with asyncio.timeout(120):
        while len((await pair.receiver.get("/peers/files?state=offered"))["items"]) < count:
            await asyncio.sleep(0.05)


async def test_a_file_goes_from_one_command_line_to_another(pair: Pair) -> None:
    path = pair.give(os.urandom(2_000_000), "results.tar.gz")
    sending = asyncio.create_task(nunet(pair.sender, "send-file", pair.receiver_id, str(path), "1"))
    await until_offered(pair)
    listed, _ = await nunet(pair.receiver, "file", "list")
    assert listed.splitlines()[0].split() == ["ID", "Transfer", "Direction", "State", "Name", "Bytes", "Done", "Peer"]
    assert listed.splitlines()[1].split()[0] == "0"
    out, _ = await nunet(pair.receiver, "accept-file")
    into = pair.receiver.folder / "received_files" / "results.tar.gz"
    assert out == f"File saved to: {into}\n"
    assert into.read_bytes() == path.read_bytes()
    assert (await sending)[0] == "transfer complete\n"
    assert json.loads((await nunet(pair.receiver, "file", "list", "-o", "json"))[0]) == []
    (row,) = json.loads((await nunet(pair.sender, "file", "list", "--all", "-o", "json"))[0])
    assert (row["state"], row["direction"]) == ("completed", "out")


async def test_refusals_end_with_a_code_and_a_reason(pair: Pair, tmp_path: Path) -> None:
    path = pair.give(b"x", "one")
    offer = ("send-file", pair.receiver_id, str(path), "--no-wait")
    transfer_id = (await nunet(pair.sender, *offer))[0].strip()
    sending = asyncio.create_task(nunet(pair.sender, *offer[:3], "-o", "jsonl", code=4))
    await until_offered(pair, 2)
    out, _ = await nunet(pair.receiver, "file", "clear")
    assert out == "Successfully Cleard Inbound File Transfer Requests.\n"
    out, err = await sending
    assert json.loads(out.splitlines()[-1])["state"] == "cancelled"
    assert "refused by the receiver" in err
    await pair.until(pair.sender, transfer_id, "cancelled")
    _, err = await nunet(pair.sender, "file", "cancel", transfer_id, code=5)
    assert "is over: cancelled" in err
    secret = tmp_path / "secret"
    secret.write_text("x")
    _, err = await nunet(pair.sender, "send-file", pair.receiver_id, str(secret), code=4)
    assert "files.send_folders" in err
    _, err = await nunet(pair.receiver, "accept-file", code=1)
    assert "Unknown Stream ID: 0" in err


async def test_a_bar_is_shown_on_a_terminal(pair: Pair) -> None:
    path = pair.give(os.urandom(1_000_000), "shown.bin")

    def send() -> str:
        line = command(pair.sender, "send-file", pair.receiver_id, str(path))
        with terminal(line, environment(TERM="xterm"), 120) as shell:
            shell.expect("shown.bin")
            shell.expect("transfer complete")
            assert shell.end() == 0
            return shell.shown

    sending = asyncio.create_task(asyncio.to_thread(send))
    await until_offered(pair)
    await nunet(pair.receiver, "accept-file")
    assert "1.0/1.0 MB" in await sending


async def test_two_users_chat(pair: Pair) -> None:
    def talk() -> None:
        with (
            terminal(command(pair.sender, "chat", "start", pair.receiver_id), environment(), 200) as starter,
            terminal(command(pair.receiver, "chat", "list"), environment(), 200) as unused,
        ):
            starter.expect(f"Enter the message that you wish to send to {pair.receiver_id}")
            assert unused.end() == 0
            with terminal(command(pair.receiver, "chat", "join", "0"), environment(), 200) as joiner:
                joiner.expect("Enter the message that you wish to send and press return.")
                starter.type("hello there\n")
                joiner.expect("Peer: hello there")
                joiner.type("and \x1b[31mhello to you\n")
                starter.expect("hello to you")
                assert "\x1b[31mhello" not in starter.shown.split("Peer: ")[1]
                starter.type("\x04")
                joiner.expect("the chat is over")
                assert joiner.end() == 0
            assert starter.end() == 0

    await asyncio.to_thread(talk)


async def test_chat_refusals_are_those_of_the_original(pair: Pair) -> None:
    for args, code, text in (
        (("start",), 2, "no peer ID specified"),
        (("start", "a", "b"), 2, "cannot start multiple chats"),
        (("start", "x"), 1, "Could not decode string ID to peerID"),
        (("join",), 2, "no chat ID specified"),
        (("join", "1", "2"), 2, "unable to join multiple chats"),
        (("join", "x"), 2, "argument is not integer"),
        (("join", "3"), 3, "no incoming stream match chat ID specified"),
    ):
        _, err = await nunet(pair.sender, "chat", *args, code=code)
        assert text in err
    assert await nunet(pair.sender, "chat", "list") == ("", "no incoming chats\n")
    assert (await nunet(pair.sender, "chat", "clear"))[0] == "Successfully Cleard Inbound Chat Requests.\n"


async def test_lines_can_be_piped_into_a_chat(pair: Pair) -> None:
    calling = asyncio.create_task(nunet(pair.sender, "chat", "start", pair.receiver_id, stdin="one\ntwo\n"))
    async with asyncio.timeout(120):
        while not await pair.receiver.get("/peers/chat") and not calling.done():
            await asyncio.sleep(0.01)
    assert "the chat is over" in (await calling)[1]


async def test_the_default_provider_is_shown_set_and_cleared(pair: Pair) -> None:
    assert (await nunet(pair.sender, "peer", "default"))[0] == "no default peer set\n"
    _, err = await nunet(pair.sender, "peer", "default", pair.receiver_id, code=1)
    assert "Peer not in DHT yet." in err
    await pair.receiver.onboard()
    await pair.sender.sees_provider()
    out, _ = await nunet(pair.sender, "peer", "default", pair.receiver_id)
    assert out == f"Successfully set {pair.receiver_id} as default deployment request receiver.\n"
    shown = json.loads((await nunet(pair.sender, "peer", "default", "-o", "json"))[0])
    assert shown["peer_id"] == pair.receiver_id
    assert (await nunet(pair.sender, "peer", "default", "0"))[0] == "default peer successfully removed\n"
