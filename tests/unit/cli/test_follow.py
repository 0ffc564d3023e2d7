"""Following a job over a connection that breaks."""

from __future__ import annotations

import json
from threading import Thread

import pytest
from websockets.sync.server import ServerConnection, serve

from dms.cli.client import Api
from dms.cli.failure import Failure
from dms.cli.follow import SUBPROTOCOL, Follower


def test_each_trouble_of_a_lost_connection_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    def say_one_thing(socket: ServerConnection) -> None:
        socket.send(json.dumps({"action": "log-stream-response", "job_id": "j", "message": "one", "seq": 1}))

    with serve(say_one_thing, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL]) as server:  # type: ignore[list-item]
        serving = Thread(target=server.serve_forever)
        serving.start()
        follower = Follower(Api(f"http://127.0.0.1:{server.socket.getsockname()[1]}"), "j", patience_seconds=2.0)
        frames = follower.frames()
        assert next(frames)["message"] == "one"
        server.shutdown()
        serving.join()
    with pytest.raises(Failure, match="nothing answers"):
        list(frames)
    told = [line for line in capsys.readouterr().err.splitlines() if "connection lost" in line]
    assert told[-1] == "connection lost (Connection refused), connecting again"
    assert len(told) == len(set(told))
