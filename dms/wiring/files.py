"""Files that users give to each other."""

from __future__ import annotations

from pathlib import Path

from dms.application.device.refusals import Door
from dms.application.files.transfers import TransferLimits, Transfers
from dms.application.files.user_files import Inbox, Outbox
from dms.wiring.base import MIB, Base


def build_transfers(base: Base, inbox: Inbox) -> Transfers:
    files = base.settings.files
    return Transfers(
        base.event_log,
        base.network,
        base.exchange,
        build_outbox(base),
        inbox,
        base.clock,
        Door(base.device, base.refusals),
        base.budgets,
        TransferLimits(max_bytes=files.max_mb * MIB, max_offers=files.max_offers),
    )


def build_outbox(base: Base) -> Outbox:
    general, folders = base.settings.general, base.settings.files.send_folders
    return Outbox([Path(folder) for folder in folders], (general.data_dir, general.work_dir), base.received)
