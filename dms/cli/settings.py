"""`nunet config`: what is set, and where from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dms.cli.core import Group, State, command, pass_state
from dms.cli.failure import say
from dms.masking import masked


def add_to(cli: Group) -> None:
    group = Group("config", help="Show and check the settings.", example="nunet config show")
    cli.add_command(group)

    @command(group, "show", "nunet config show -o json")
    @pass_state
    def show(state: State) -> None:
        """Show every setting, its value and its source.

        Secrets, and passwords in addresses, are left out.
        """
        state.output.rows(rows(state), [("SETTING", "setting"), ("VALUE", "value"), ("FROM", "from")])

    @command(group, "check", "nunet config check --config ./dms_config.json")
    @pass_state
    def check(state: State) -> None:
        """Check the configuration. Errors name file, line and column, or the setting (exit code 2).

        Files that it names are read, so run it as a user who may read them.
        """
        from dms.adapters.p2p.addresses import remark_on_target, remarks_on, remarks_on_listening
        from dms.wiring.checks import check_settings

        loaded = state.load()
        check_settings(loaded.settings)
        p2p = loaded.settings.p2p
        target = remark_on_target(loaded.settings.job.target_peer)
        listening, peers = remarks_on_listening(p2p.listen_address), remarks_on(p2p.bootstrap_peers)
        for remark in (*listening, *peers, *([target] if target else [])):
            say(remark)
        found = f"{loaded.file} is fine" if loaded.file else "no dms_config.json was found: the defaults are used"
        say(found + (f", with {len(loaded.warnings)} warning(s)" if loaded.warnings else ""))


def rows(state: State) -> list[dict[str, Any]]:
    from msgspec import structs

    from dms.config import SECRETS

    loaded = state.load()
    found = []
    for key in sorted(loaded.sources):
        section, _, name = key.partition(".")
        value = structs.asdict(getattr(loaded.settings, section))[name]
        shown = "***" if key in SECRETS and value else _plain(value)
        found.append({"setting": key, "value": shown, "from": loaded.sources[key]})
    return found


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return masked(value) if isinstance(value, str) else value
