"""This machine as a compute provider: onboard, offboard, info, capacity, resource-config, device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dms.cli.core import Group, State, can_ask, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import Failure, say
from dms.cli.text import printable
from dms.errors import Exit

if TYPE_CHECKING:
    from dms.cli.client import Api

CHANNELS = ("nunet-test", "nunet-edge", "nunet-team", "nunet-staging")
_KINDS = {"full": "total", "available": "free", "onboarded": "onboarded"}  # flag: the part of a capacity row
ONBOARD_EXAMPLE = "nunet onboard -m 50% -c 50% -n nunet-test -a <address>"


class Share(NamedTuple):
    """Of what the machine has."""

    percent: float


class _Amount(click.ParamType[float | Share]):
    """A number, or a share of what the machine has, such as 50%."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Share:
        text = str(value).strip()
        try:
            amount = float(text.removesuffix("%"))
        except ValueError:
            self.fail(f"'{text}' is neither a number nor a share such as 50%", param, ctx)
        return Share(amount) if text.endswith("%") else amount


AMOUNT = _Amount()


def add_to(cli: Group) -> None:
    _add_onboard(cli)
    _add_offboard(cli)
    _add_resource_config(cli)
    _add_figures(cli)
    _add_availability(cli)


def _add_onboard(cli: Group) -> None:
    @command(cli, "onboard", ONBOARD_EXAMPLE)
    @click.option("-m", "--memory", type=AMOUNT, metavar="MB", help="Memory to offer, or a share such as 50%.")
    @click.option(
        "-c", "--cpu", type=AMOUNT, metavar="MHZ", help="CPU to offer, in MHz over all cores, or a share such as 50%."
    )
    @click.option("-n", "--nunet-channel", "channel", type=click.Choice(CHANNELS), help="Network to join.")
    @click.option("-a", "--address", metavar="ADDRESS", help="Cardano or Ethereum address for payments.")
    @click.option("-x", "--ntx-price", type=float, metavar="NTX", help="Minimum price per minute.")
    @click.option("-C", "--cardano", is_flag=True, help="Also offer to run a Cardano node.")
    @click.option(
        "-l", "--local-enable", is_flag=True, help="Also reach peers on the local network (not in data centres)."
    )
    @click.option("-u", "--unavailable", is_flag=True, help="Onboard, but take no jobs yet.")
    @click.option("-p", "--plugin", "plugins", metavar="NAME", multiple=True, help="Plugin to enable. Can be repeated.")
    @click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
    @pass_state
    def onboard(state: State, /, *, yes: bool, **given: Any) -> None:
        """Offer part of this machine to the network.

        Between 10 % and 90 % of the machine's CPU and memory can be offered; `nunet capacity --full` shows the totals.
        On a terminal, missing values are asked for.
        """
        api = state.api()
        say("Checking onboard status...")
        if api.get("/onboarding/status")["onboarded"]:
            _confirm(
                "Looks like your machine is already onboarded. Proceed with reonboarding?",
                yes,
                "reonboarding aborted by user",
                "the machine is already onboarded",
            )
        body = onboarding(_of_machine(api, _asked(given, ask=can_ask() and not yes)))
        metadata = api.post("/onboarding/onboard", body)
        say("Successfully onboarded!")
        state.output.record(metadata)


def _add_offboard(cli: Group) -> None:
    @command(cli, "offboard", "nunet offboard --dry-run\nnunet offboard --yes")
    @click.option("-f", "--force", is_flag=True, help="Even if jobs are running or the state is damaged.")
    @click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
    @click.option("--dry-run", is_flag=True, help="Only tell what it would mean now.")
    @click.option(
        "--forget-identity",
        is_flag=True,
        help="With the daemon stopped: give up the node's key for good, and do nothing else.",
    )
    @pass_state
    def offboard(state: State, *, force: bool, yes: bool, dry_run: bool, forget_identity: bool) -> None:
        """Withdraw this machine from the network. Its history and identity are kept.

        To give up the identity as well, stop the daemon and use --forget-identity: the next start creates a new one.
        """
        if forget_identity:
            _forget_identity(state, yes)
            return
        if dry_run:
            _forecast(state)
            return
        if not yes and can_ask():
            for meaning in state.api().get("/onboarding/offboard")["means"]:
                say(f"- {meaning}")
        _confirm("Are you sure you want to offboard?", yes, "Exiting...", "offboarding was not confirmed")
        answer = state.api().post("/onboarding/offboard", force=force)
        say(answer["message"])


def _forecast(state: State) -> None:
    found = state.api().get("/onboarding/offboard")
    if not state.output.for_people:
        state.output.record(found)
        return
    if not found["onboarded"]:
        say("the machine is not onboarded")
    for meaning in found["means"]:
        click.echo(printable(meaning))


def _add_resource_config(cli: Group) -> None:
    @command(cli, "resource-config", "nunet resource-config -m 60% -c 60% -x 0.0002")
    @click.option("-m", "--memory", type=AMOUNT, metavar="MB", help="Memory to offer, or a share such as 50%.")
    @click.option("-c", "--cpu", type=AMOUNT, metavar="MHZ", help="CPU to offer, or a share such as 50%.")
    @click.option(
        "-x", "--ntx-price", type=float, metavar="NTX", help="Minimum price per minute  [default: unchanged]."
    )
    @pass_state
    def resource_config(
        state: State, memory: float | Share | None, cpu: float | Share | None, ntx_price: float | None
    ) -> None:
        """Change what this machine offers. Memory and CPU are both required."""
        if memory is None or cpu is None:
            raise Failure(
                "all flag values must be specified", Exit.USAGE, "nunet resource-config -m MB -c MHZ [-x NTX]"
            )
        given = _of_machine(state.api(), {"memory": memory, "cpu": cpu})
        body: dict[str, Any] = {key: _amount(key, given[key]) for key in given}
        if ntx_price is not None:
            body["ntx_price"] = ntx_price
        metadata = state.api().post("/onboarding/resource-config", body)
        say("Resources updated successfully!")
        state.output.record(metadata)


def _forget_identity(state: State, yes: bool) -> None:
    from dms.keys import forget_identity

    _confirm(
        "Without its key this node is another peer: what it is owed can't be claimed any more. Give the key up?",
        yes,
        "Exiting...",
        "giving up the identity was not confirmed",
    )
    peer_id = forget_identity(state.load().settings)
    say(f"The identity{f' of peer {peer_id}' if peer_id else ''} is forgotten; the next start makes a new one.")


def _add_figures(cli: Group) -> None:
    @command(cli, "info", "nunet info -o yaml")
    @pass_state
    def info(state: State) -> None:
        """Show what this machine is onboarded with."""
        found = state.api().get("/onboarding/metadata")
        if state.output.for_people:
            state.output.outline({"metadata": found})
        else:
            state.output.record(found)

    _add_capacity(cli, "capacity")
    _add_capacity(cli, "available").hidden = True  # the older name


def _add_capacity(cli: Group, name: str) -> click.Command:
    @command(cli, name, f"nunet {name} --full --available -o json")
    @click.option("-f", "--full", is_flag=True, help="What the machine has.")
    @click.option("-a", "--available", is_flag=True, help="Onboarded resources that no job holds.")
    @click.option("-o", "--onboarded", is_flag=True, help="What is offered to the network.")
    @click.option("-p", "--pretty", is_flag=True, expose_value=False, help="As a table (the default).")
    @click.option("-v", "--verbose", is_flag=True, help="Everything (the default).")
    @click.option("-gpu", "--gpu-status", "moved", flag_value="gpu status", type=str, hidden=True)
    @click.option("-ct", "--cuda-tensor", "moved", flag_value="gpu capacity --cuda-tensor", type=str, hidden=True)
    @click.option("--rocm-hip", "moved", flag_value="gpu capacity --rocm-hip", type=str, hidden=True)
    @at_option
    @pass_state
    def capacity(state: State, /, *, verbose: bool, moved: str | None, as_of: str | None, **wanted: bool) -> None:
        """Show the capacity of this machine and of the whole network. Flags select parts of it.

        Here -o alone means --onboarded; followed by a format, as in -o json, it means --output.
        """
        if moved:
            raise Failure("the GPUs have a command of their own", Exit.USAGE, f"nunet {moved}")
        kinds = [kind for kind in _KINDS if wanted[kind] or verbose] or list(_KINDS)
        rows = capacity_rows(state.api(), kinds, as_of)
        columns = [("RESOURCES", "resources"), ("MEMORY (MB)", "memory_mb"), ("CPU (MHz)", "cpu_mhz")]
        state.output.rows(rows, [*columns, ("VRAM (MB)", "vram_mb"), ("CORES", "cores"), ("PROVIDERS", "providers")])

    return capacity


def _add_availability(cli: Group) -> None:
    group = Group("device", help="Go online or offline.", example="nunet device set online")
    cli.add_command(group)

    @command(group, "status", "nunet device status")
    @pass_state
    def status(state: State) -> None:
        """Show whether this machine takes jobs."""
        answer = state.api().get("/device/status")
        state.output.record(answer, [("status", lambda row: "online" if row["online"] else "offline")])
        if state.output.for_people:
            for why in answer["reasons"]:
                say(f"no jobs of peers are taken: {why['reason']}")
        if answer.get("network_trouble") and state.output.for_people:
            say(f"jobs that need the internet are not taken: {answer['network_trouble']}")

    @command(group, "set", "nunet device set offline")
    @click.argument("availability", type=click.Choice(["online", "offline"]))
    @pass_state
    def set_status(state: State, availability: str) -> None:
        """Take jobs (online), or take no new ones (offline). Running jobs are not affected."""
        answer = state.api().post("/device/status", {"is_available": availability == "online"})
        say(answer["message"])


def _confirm(question: str, yes: bool, declined: str, unasked: str) -> None:
    """Raises Failure unless agreed to."""
    if yes:
        return
    if not can_ask():
        raise Failure(unasked, Exit.CONFLICT, "there is no terminal to ask at: add --yes to go on")
    if not click.confirm(question, err=True):
        raise Failure(declined)


def _asked(given: Mapping[str, Any], *, ask: bool) -> dict[str, Any]:
    """With the values that are missing asked for."""
    found = dict(given)
    questions: dict[str, tuple[str, Any]] = {
        "memory": ("Memory to offer, MB or a share", AMOUNT),
        "cpu": ("CPU to offer, MHz or a share", AMOUNT),
        "channel": ("Channel", click.Choice(CHANNELS)),
        "address": ("Address for the payments", str),
    }
    usual = {"memory": "50%", "cpu": "50%", "channel": "nunet-test"}
    for key, (question, kind) in questions.items():
        if ask and found[key] is None:
            found[key] = click.prompt(question, type=kind, err=True, default=usual.get(key))
    return found


def _of_machine(api: Api, given: Mapping[str, Any]) -> dict[str, Any]:
    """Shares as what they are of this machine."""
    found = dict(given)
    for key in ("memory", "cpu"):
        if isinstance(share := found[key], Share):
            found[key] = float(api.get("/onboarding/provisioned")[key]) * share.percent / 100
    return found


def onboarding(given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /onboarding/onboard. Raises Failure with the original's texts."""
    for key, option in (("channel", "nunet-channel"), ("address", "address")):
        if not given[key]:
            raise Failure(f"{option} must be provided and non-empty", Exit.USAGE, ONBOARD_EXAMPLE)
    price = given["ntx_price"]
    if price is not None and not 0 <= price < float("inf"):
        from dms.domain.bounds import MAX_NTX_PRICE

        raise Failure("'ntx-price' must be a positive value", Exit.USAGE, f"0 to {MAX_NTX_PRICE:f} NTX a minute")
    body: dict[str, Any] = {
        "memory": _amount("memory", given["memory"]),
        "cpu": _amount("cpu", given["cpu"]),
        "channel": given["channel"],
        "payment_addr": given["address"],
        "cardano": given["cardano"],
        "server_mode": not given["local_enable"],
        "is_available": not given["unavailable"],
    }
    if price is not None:
        body["ntx_price"] = price
    return body | ({"plugins": list(given["plugins"])} if given["plugins"] else {})


def _amount(name: str, value: float | None) -> int:
    """Decimals are dropped, as the original does."""
    if value is None or not 1 <= value < 1e15:
        raise Failure(f"{name} must be provided and greater than 0", Exit.USAGE, ONBOARD_EXAMPLE)
    return int(value)


def capacity_rows(api: Api, kinds: list[str], as_of: str | None = None) -> list[dict[str, Any]]:
    """This machine's lines, then the network's, in the order of `kinds` (full, available, onboarded)."""
    found, total = api.get("/capacity", as_of=as_of), api.get("/onboarding/provisioned")
    own: dict[str, Any] = next((row for row in found["providers"] if row["own"]), {})
    full = {"cpu_mhz": int(total["cpu"]), "memory_mb": int(total["memory"]), "vram_mb": _part(own, "total")["vram_mb"]}
    here = [
        {"resources": kind.capitalize(), **(full if kind == "full" else _part(own, _KINDS[kind]))}
        | {"cores": int(total["total_cores"]) if kind == "full" else None, "providers": None}
        for kind in kinds
    ]
    network = found["network"]
    return here + [
        {"resources": f"Network {kind}", **_part(network, _KINDS[kind]), "cores": None, "providers": network["online"]}
        for kind in kinds
    ]


def _part(row: Mapping[str, Any], name: str) -> dict[str, int]:
    """Nothing, where the machine is not onboarded."""
    amounts: dict[str, int] = row.get(name, {})
    return {"cpu_mhz": 0, "memory_mb": 0, "vram_mb": 0} | amounts
