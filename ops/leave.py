"""Stops the jobs that the packaged service left running: once the package is gone, nobody would enforce their limits.

    python -m ops.leave CONFIG_FILE     the package has it as /usr/lib/nunet-dms/leave.py; its prerm calls it, as root

The file says where the data are. One that can't be used leaves the package's own folder.
Containers are stopped, not removed, so that a DMS that is installed again finds their output. Prints the id of each,
which the package keeps: purging removes them. The engine is that of DOCKER_HOST, else the system's. Exits with 1 and a
sentence when Docker could not be asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from dms.adapters.executors.process import ProcessExecutor
from dms.adapters.executors.profile import LABEL_GATEWAY_NODE, LABEL_MANAGED, LABEL_NODE
from dms.config import General, Settings, load
from dms.errors import ConfigError, DmsError
from dms.keys import named_peer

GRACE_SECONDS = 10
STATE = Path("/var/lib/nunet")  # the service's home too


def containers(peer_id: str) -> list[str]:
    """Stops those of this node; answers their ids. Raises DockerException."""
    api = APIClient(os.environ.get("DOCKER_HOST"), version="auto", timeout=GRACE_SECONDS + 20)
    try:
        labels = [f"{LABEL_MANAGED}=true", f"{LABEL_NODE}={peer_id}"]
        found = [str(each["Id"]) for each in api.containers(all=True, filters={"label": labels})]
        for each in found:
            api.stop(each, timeout=GRACE_SECONDS)  # those that run no more are left as they are
        remove_gateways(api, peer_id)
    finally:
        api.close()
    return found


def remove_gateways(api: APIClient, peer_id: str) -> None:
    """Of its jobs' networks nothing is kept."""
    ours = {"label": f"{LABEL_GATEWAY_NODE}={peer_id}"}
    for container in api.containers(all=True, filters=ours):
        _remove(api, str(container["Id"]))
    for network in api.networks(filters=ours):
        with suppress(NotFound):
            api.remove_network(network["Id"])


def _remove(api: APIClient, container: str) -> None:
    """Waits for one that the engine is removing already: a network can't go before it."""
    with suppress(NotFound):
        try:
            api.remove_container(container, force=True)
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            api.wait(container, timeout=GRACE_SECONDS, condition="removed")


async def processes(peer_id: str, folder: Path) -> None:
    executor = ProcessExecutor(peer_id, folder)
    for job_id in await executor.list_jobs():
        await executor.stop(job_id, GRACE_SECONDS)


def settings_of(config: Path) -> Settings:
    """As the service reads them."""
    try:
        return load({}, {}, config, home=STATE, root=False).settings
    except ConfigError as error:
        print(f"nunet-dms: {error}; its jobs are looked for in {STATE}", file=sys.stderr)
        return Settings(general=General(work_dir=STATE, data_dir=STATE))


def main(settings: Settings, docker_sockets: tuple[Path, ...] = (Path("/run/docker.sock"),)) -> int:
    try:
        peer_id = named_peer(settings)
        if not peer_id:
            return 0  # it never ran
        asyncio.run(processes(peer_id, settings.general.data_dir / "processes"))
        if any(socket.exists() for socket in docker_sockets):
            print("\n".join(containers(peer_id)))
    except (DmsError, DockerException, OSError) as error:
        print(f"nunet-dms: jobs may still run, and nobody enforces their limits now: {error}", file=sys.stderr)
        print(f"nunet-dms: see `docker ps --filter label={LABEL_MANAGED}=true`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(settings_of(Path(sys.argv[1]))))
