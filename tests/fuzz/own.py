"""Readers without a target, each with the reason: others did not make what they read, or it is read before by one that
has a target."""

from __future__ import annotations

_OWN_LOG = "a row of the own log, whose hash was made with it"
_CHECKED = "of values that were read and bounded before"
_CONVERTED = "turns one of our own structs into another"
_ENGINE = "what `nunet` or systemd set for this process"

NOT_FROM_OUTSIDE = {
    "dms.adapters.eventlog.sqlite_reader:SQLiteReader.previous_hash": _OWN_LOG,
    "dms.adapters.eventlog.sqlite_reader:_of_record": "a record of an archive, which archive-blocks reads",
    "dms.adapters.eventlog.sqlite_scan:scan": _OWN_LOG,
    "dms.adapters.eventlog.verifier:Verifier._archive": "a record of an archive, which archive-blocks reads",
    "dms.adapters.eventlog.verifier:Verifier._compare": "a record of an archive, which archive-blocks reads",
    "dms.adapters.executors.canary_program:Seen.capabilities": "a fixed stretch of what the own program wrote",
    "dms.adapters.executors.engine:_client_tls": _ENGINE,
    "dms.adapters.executors.host_network:own_addresses": "addresses of this machine's interfaces",
    "dms.adapters.executors.process:_fill": "calls `unpack`, which workspaces reads",
    "dms.adapters.executors.process_child:supervise": "what the daemon gives its own child",
    "dms.adapters.executors.workspaces:Workspaces._fill": "calls `unpack`, which workspaces reads",
    "dms.adapters.executors.workspaces:_engine_pid": "a struct of the kernel's",
    "dms.adapters.http.gpu:capacity": _CONVERTED,
    "dms.adapters.http.live:LiveSession._tell_problem": _CONVERTED,
    "dms.adapters.http.offboarding:forecast": "an amount that the own views computed",
    "dms.adapters.http.onboarding:onboard": _CHECKED,
    "dms.adapters.http.onboarding:resource_config": _CHECKED,
    "dms.adapters.http.server:_plain": _CONVERTED,
    "dms.lookups:_is_number": "only asks whether it is an address",
    "dms.socket_owner:_asked": "a struct of the kernel's",
    "dms.adapters.nats.connection:_tls": "files of the configuration, which Python's ssl reads",
    "dms.adapters.p2p.addresses:expand": "addresses that the own host listens on",
    "dms.adapters.p2p.addresses:interface_ips": "addresses of this machine's interfaces",
    "dms.adapters.p2p.host:build_host": "addresses that the own host listens on",
    "dms.adapters.p2p.host:running": "addresses that the own host listens on",
    "dms.adapters.p2p.workarounds:_Headers.read": "twelve bytes, any of which are a header",
    "dms.adapters.p2p.links:Links._try": "addresses that `dialable` let in, which addresses reads",
    "dms.adapters.views.check:_compare": "rows that the own projections wrote",
    "dms.adapters.views.table:ViewTable.decoded": "rows that the own projections wrote",
    "dms.adapters.views.table:ViewTable.snapshot": "rows that the own projections wrote",
    "dms.application.deployments.admission:limit_of": _CHECKED,
    "dms.application.deployments.compute_provider:ComputeProvider.request": _CHECKED,
    "dms.application.jobs.request_check:_of_price": _CHECKED,
    "dms.application.network.directory:Directory._on_gossip": "calls the bounds' read, which peer-advertisements reads",
    "dms.application.records.event_schemas:past_schemas": "a file of this package",
    "dms.cli.client:Api.lines": "its loop is that of the target answers",
    "dms.cli.client:_known_trouble": "an address of the user's that `checked_url` let in",
    "dms.domain.device:Device._onboarded": _OWN_LOG,
    "dms.domain.device:Device._resources_changed": _OWN_LOG,
    "dms.domain.device:Device.__init__": "a constant",
    "dms.domain.matching:_Search.__init__": "a constant",
    "dms.domain.matching:_Search.above": "a constant",
    "dms.domain.matching:needs_of": _CHECKED,
    "dms.domain.what_if:WhatIf.__init__": "a constant",
    "dms.offline:export_against_heads": "the hash of a record that the checker of exports let through",
}
