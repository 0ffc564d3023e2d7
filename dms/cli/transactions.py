"""`nunet transaction`: what was paid for, and the rewards."""

from __future__ import annotations

import click

from dms.cli.core import Group, State, command, pass_state
from dms.cli.events import at_option
from dms.cli.failure import say


def add_to(cli: Group) -> None:
    group = Group("transaction", help="Payments of jobs, and their rewards.", example="nunet transaction list")
    cli.add_command(group)
    _add_list(group)
    _add_rewards(group)


def _add_list(group: Group) -> None:
    @command(group, "list", "nunet transaction list --done 10")
    @click.option("--done", "size_done", type=click.IntRange(min=0), help="Show only this many of those that are done.")
    @click.option("--clean", metavar="TYPE", help="First hide those of this type: done, refund, withdraw, ...")
    @at_option
    @pass_state
    def list_transactions(state: State, size_done: int | None, clean: str | None, as_of: str | None) -> None:
        """List the payments for this node's jobs, newest first."""
        rows = state.api().get("/transactions", size_done=size_done, clean_tx=clean, as_of=as_of)
        state.output.rows(
            rows,
            [
                ("TX HASH", "tx_hash"),
                ("TYPE", "transaction_type"),
                ("DATE", "date_time"),
                ("JOB", "job_id"),
                ("ROLE", "role"),
                ("PRICE", "price"),
                ("TO PROVIDER", "to_provider"),
                ("TO REQUESTER", "to_requester"),
            ],
            empty="nothing was paid for here",
        )


def _add_rewards(group: Group) -> None:
    @command(group, "request-reward", "nunet transaction request-reward 0xab12")
    @click.argument("tx_hash")
    @click.option("--address", metavar="ADDRESS", default="", help="Address of the compute provider, as a check.")
    @pass_state
    def request_reward(state: State, tx_hash: str, address: str) -> None:
        """Show how a job's price is shared, signed by this node. The job must have ended."""
        body = {"tx_hash": tx_hash, "compute_provider_address": address}
        state.output.record(state.api().post("/transactions/request-reward", body))

    @command(group, "send-status", "nunet transaction send-status 0xab12 --type withdraw")
    @click.argument("tx_hash")
    @click.option("--type", "transaction_type", metavar="TYPE", default="", help="Expected type of the reward.")
    @click.option("--status", default="success", show_default=True, help="Only success changes anything.")
    @pass_state
    def send_status(state: State, tx_hash: str, transaction_type: str, status: str) -> None:
        """Report that a reward was paid out, which completes its transaction."""
        body = {"transaction_type": transaction_type, "transaction_status": status, "tx_hash": tx_hash}
        _tell(state, state.api().post("/transactions/send-status", body))

    @command(group, "sync", "nunet transaction sync")
    @click.option("--address", metavar="ADDRESS", default="", help="Address of the contract, as in the original.")
    @pass_state
    def sync(state: State, address: str) -> None:
        """Look up on the chain which rewards were paid out (needs funding.check=ledger)."""
        _tell(state, state.api().post("/transactions/update-status", {"address": address}))


def _tell(state: State, answer: dict[str, object]) -> None:
    """The message, for people; for programs all of the answer."""
    if state.output.for_people:
        say(str(answer["message"]))
    else:
        state.output.record(answer)
