"""Whether this machine can give jobs the internet: tried from inside of a gateway, as a job would find it, and beside
that from a container without rules, which shows that the try itself works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Sequence

from docker import APIClient
from docker.types import LogConfig

from dms.adapters.executors.calls import EngineCalls
from dms.adapters.executors.gateways import Gateways
from dms.adapters.executors.host_network import network_namespace
from dms.adapters.executors.profile import LABEL_GATEWAY, LABEL_GATEWAY_NODE, LABEL_MANAGED, MIB, UNPRIVILEGED
from dms.adapters.executors.tries import Tries
from dms.application.ports.executor import NetworkGiven
from dms.domain.network import Network
from dms.errors import ExecutionError, ExecutorUnavailable, NetworkUnavailable, NotFound

logger = logging.getLogger(__name__)

TRIAL_PREFIX = "network-trial-"  # in place of a job's id
_PROBE_SECONDS = 30
_EMBEDDED_RESOLVER = "127.0.0.11"  # the engine's, which asks the gateway's

# A question for the name servers of the root, which any resolver answers and which tells nobody anything.
_ASK_FOR_NAMES = rf"""
exec 3<>/dev/udp/{_EMBEDDED_RESOLVER}/53
for ((i = 0; i < 3; i++)); do
  printf 'dm\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01' >&3
  if IFS= read -r -t 3 -N 1 answer <&3; then echo names; break; fi
done
"""
_CONNECT = "if timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null; then echo machine; fi\n"


class NetworkTrial:
    def __init__(self, node_id: str, calls: EngineCalls, gateways: Gateways) -> None:
        self._node_id, self._calls, self._gateways = node_id, calls, gateways
        self.running: set[str] = set()  # ids that stand in for a job's: not what a crash left
        self._tries = Tries[NetworkGiven]("try of the network")

    async def result(self) -> NetworkGiven:
        """Raises ExecutorUnavailable."""
        return await self._tries.result(self._try())

    async def close(self) -> None:
        await self._tries.close()

    async def _try(self) -> NetworkGiven:
        job_id = f"{TRIAL_PREFIX}{secrets.token_hex(8)}"
        self.running.add(job_id)
        try:
            reason = await self._trouble(job_id)
        except (NetworkUnavailable, ExecutionError, NotFound) as error:
            reason = str(error)
        finally:
            await self._tidy(job_id)
            self.running.discard(job_id)
        return NetworkGiven(network=Network.NONE if reason else Network.INTERNET, reason=reason)

    async def _trouble(self, job_id: str) -> str:
        """Why jobs can't be given it; empty when they can."""
        gateway = await self._gateways.open(job_id)
        image = await self._gateways.image.ready()
        there = await self._probe(job_id, image, "host", "readlink /proc/self/ns/net")
        if there != [network_namespace()]:
            return (
                "the container engine's machine has a network that this DMS does not see, so its addresses can't be "
                "closed to jobs: run the DMS where the engine runs, with the same network"
            )
        async with _listening(gateway.machine) as port:
            connect = _CONNECT.format(address=gateway.machine, port=port)
            outside, inside = await asyncio.gather(
                self._probe(job_id, image, gateway.network, connect),
                self._probe(job_id, image, f"container:{gateway.container}", connect + _ASK_FOR_NAMES),
            )
        if "machine" in inside:
            return "a job would reach this machine: the kernel does not keep to the rules of a gateway"
        if "machine" not in outside:
            logger.info("containers can't reach this machine without rules of ours either")
        return "" if "names" in inside else self._no_names()

    def _no_names(self) -> str:
        try:
            asked = ", ".join(map(str, self._gateways.resolvers()))
        except NetworkUnavailable as error:
            return str(error)
        return f"containers get no answer from the name server ({asked}): set job.resolver to one that answers them"

    async def _probe(self, job_id: str, image: str, network_mode: str, script: str) -> Sequence[str]:
        """The lines that the script prints, without any rights, in that network."""

        def run(api: APIClient) -> str:
            made = api.create_container_from_config(  # type: ignore[no-untyped-call]
                self._config(api, job_id, image, network_mode, script), f"dms-{job_id}-{secrets.token_hex(4)}"
            )
            api.start(made["Id"])
            api.wait(made["Id"], timeout=_PROBE_SECONDS)
            return bytes(api.logs(made["Id"])).decode("utf-8", "replace")

        return (await self._calls.work("try a network", run)).split("\n")[:-1]

    def _config(self, api: APIClient, job_id: str, image: str, network_mode: str, script: str) -> dict[str, object]:
        host_config = api.create_host_config(
            network_mode=network_mode,
            # An engine that maps its containers' users shares the machine's network with those that it maps not.
            userns_mode="host" if network_mode == "host" else None,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            read_only=True,
            mem_limit=32 * MIB,
            memswap_limit=32 * MIB,
            pids_limit=32,
            log_config=LogConfig(type="json-file", config={"max-size": "64k", "max-file": "1"}),
            restart_policy={"Name": "no"},
        )
        return dict(
            api.create_container_config(
                image=image,
                command=["bash", "-c", script],
                user=UNPRIVILEGED,
                labels={LABEL_MANAGED: "true", LABEL_GATEWAY: job_id, LABEL_GATEWAY_NODE: self._node_id},
                stop_signal="SIGKILL",
                host_config=host_config,
            )
        )

    async def _tidy(self, job_id: str) -> None:
        try:
            await self._gateways.remove(job_id)
        except (ExecutionError, ExecutorUnavailable) as error:
            logger.info("what a try of the network left is removed later: %s", error)


@contextlib.asynccontextmanager
async def _listening(address: str) -> AsyncIterator[int]:
    """On a port of that address of ours, for as long as a probe may try it. Raises NetworkUnavailable."""

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    try:
        server = await asyncio.start_server(close, address, 0)
    except OSError as error:
        raise NetworkUnavailable(f"a gateway can't be tried on this machine's address {address}: {error}") from error
    async with server:
        yield int(server.sockets[0].getsockname()[1])
