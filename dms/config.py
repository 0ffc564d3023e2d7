"""What can be set, its defaults, and where each value came from.

Flags win over the environment (`DMS_REST_PORT`), that over the file, that over the defaults. The file is the first
`dms_config.json` in `.`, `~/.nunet`, `/etc/nunet`, or the one named by `--config`; `//` and `/* */` comments are
allowed. A broken file or a value of the wrong type is a ConfigError that names file, line and column; an unknown key
is only a warning, so that files of older and newer versions work. Keys match without regard to case.

Numbers of a duration are in the unit of their key; a text such as "90s", "10m", "1h", "2d" brings its own unit.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, field

from dms.config_json import Fault, Place, parse
from dms.durations import PATTERN, UNIT_SECONDS, seconds_in
from dms.errors import ConfigError
from dms.json_schema import as_shown
from dms.plain_words import located

FILE_NAME = "dms_config.json"
EVENTS_DB = "events.db"
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _lasting(unit: str, text: str, *, at_least: float = 0.0, at_most: float = 1e9) -> Meta:
    """A duration in `unit`; the bounds are in that unit too."""
    return Meta(
        ge=at_least,
        le=at_most,
        description=text,
        extra={"seconds": UNIT_SECONDS[unit]},
    )


Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port, 0 for any free one")]
Host = Annotated[str, Meta(min_length=1, description="address to listen on", extra={"host": True})]
Secret = Annotated[str, Meta(description="never shown", extra={"secret": True})]
Words = Annotated[tuple[str, ...], Meta(description="list of texts")]
Multiaddrs = Annotated[
    tuple[Annotated[str, Meta(pattern="^/")], ...],
    Meta(description="multiaddresses such as /ip4/0.0.0.0/tcp/9000"),
]
LogUrl = Annotated[
    str,
    Meta(pattern=r"^(\Z|sqlite:|postgres(ql)?://)", description="empty, sqlite:///FILE or postgresql://USER@HOST/NAME"),
]

RpcUrl = Annotated[
    str,
    Meta(
        pattern=r"^(\Z|https?://)",
        description="empty, or http(s)://HOST:PORT/...; may hold a key",
        extra={"secret": True},
    ),
]
TokenAddress = Annotated[
    str, Meta(pattern=r"^(\Z|0x[0-9a-fA-F]{40}\Z)", description="empty, or the 0x address of an ERC-20 contract")
]


PublicUrl = Annotated[
    str,
    Meta(
        pattern=r"^(\Z|https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?\Z)",
        description="empty, or http(s)://NAME or http(s)://NAME:PORT",
    ),
]
Ipv4Address = Annotated[
    str, Meta(pattern=r"^(\Z|[0-9]{1,3}(\.[0-9]{1,3}){3}\Z)", description="empty, or an IPv4 address")
]
Ipv4Network = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}\Z",
        description="a private IPv4 network, /8 to /29, such as 10.217.0.0/16",
    ),
]
JobNetwork = Annotated[
    Literal["auto", "internet", "none"],
    Meta(description="auto, internet or none", extra={"older": {True: "internet", False: "none"}}),
]


class General(Struct, frozen=True, kw_only=True):
    """Folders are made when missing. When not root they are ~/.nunet and ~/.nunet/data instead."""

    # metadataV2.json and the node's key; `metadata_path` is the older name
    work_dir: Path = field(default_factory=lambda: Path("/etc/nunet"))
    data_dir: Path = field(default_factory=lambda: Path("/var/nunet"))  # events.db, job logs, checkpoints
    debug: bool = False  # more in the log
    # Of a key that `nunet key encrypt` encrypted: one line. A credential of systemd, node.key.passphrase, comes first
    key_passphrase_file: str = ""


class Rest(Struct, frozen=True, kw_only=True):
    addr: Host = "127.0.0.1"
    port: Port = 9999
    allowed_hosts: Words = ()  # Host headers beyond the loopback names and `addr`
    # Web pages that may call: the two dashboards of the original. The server adds its own origin.
    allowed_origins: Words = ("http://localhost:9991", "http://localhost:9992")
    # Where browsers reach this server through a proxy, such as https://dms.example.org. Its pages count as our own, and
    # nobody as a caller on this machine: a proxy here makes all callers look like that.
    public_url: PublicUrl = ""
    # Certificate chain and key, PEM, for https; both are read again when they change
    tls_cert: str = ""
    tls_key: str = ""
    tls_by_proxy: bool = False  # at another address than loopback: a proxy in front speaks TLS, so plain http will do
    require_token: bool = False  # also of root and the group nunet on this machine
    # Of each token, and of each address without one. The operator on this machine has no such limits.
    requests_a_minute: Annotated[int, Meta(ge=1, le=1_000_000, description="a number")] = 1200
    max_sockets: Annotated[int, Meta(ge=1, le=10_000, description="websockets and streams of one client")] = 100
    max_unpaid_jobs: Annotated[int, Meta(ge=1, le=100_000, description="jobs of one token that are not paid yet")] = 100


class P2p(Struct, frozen=True, kw_only=True):
    # A QUIC address is accepted, since files of the original have it, but not listened on.
    listen_address: Multiaddrs = ("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic")
    announce_address: Multiaddrs = ()  # told to others in place of the listening ones (behind NAT)
    bootstrap_peers: Multiaddrs = ()  # none: the original's bootstrap nodes are not ours to load
    mdns: bool = True  # find peers on the local network


class Job(Struct, frozen=True, kw_only=True):
    log_update_interval: Annotated[float, _lasting("m", "minutes", at_least=0.01)] = 2  # minutes between checkpoints
    target_peer: str = ""  # peer id that gets the requests which name none
    cleanup_interval: Annotated[float, _lasting("d", "days", at_least=0.001)] = (
        3  # days between two removals of left containers, replaced images and unfetched checkpoints
    )
    funding_window: Annotated[float, _lasting("s", "seconds", at_least=1)] = 600  # seconds from quote to payment
    provider_grace: Annotated[float, _lasting("s", "seconds", at_least=1)] = 3600  # seconds a provider may be away
    answer_timeout: Annotated[float, _lasting("s", "seconds", at_least=0.1)] = 30  # seconds for accept or reject
    log_max_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="MiB")] = 64  # MiB of output kept for each job
    # MiB that a job's workspace may hold to be archived as a checkpoint, and of one that is fetched
    checkpoint_max_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="MiB")] = 1024
    input_max_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="MiB")] = 4096  # MiB of all inputs of one job
    # MiB of inputs kept for later jobs that ask for the same URL and digest; what was not used for longest goes first
    input_cache_mb: Annotated[int, Meta(ge=0, le=100_000_000, description="MiB")] = 10_240
    # seconds that an input may not come, or be slower than 100 kB/s
    input_patience: Annotated[float, _lasting("s", "seconds", at_least=1)] = 600
    input_networks: Words = ()  # inner networks that inputs may be fetched from, such as 10.1.0.0/16; none by default
    # MiB of what a job leaves that are given back, and of results that are fetched
    results_max_mb: Annotated[int, Meta(ge=1, le=1_000_000, description="MiB")] = 4096
    results_keep_days: Annotated[float, _lasting("d", "days", at_least=0.001)] = 30  # days that results stay here
    executor: Literal["auto", "docker", "process"] = "auto"  # auto: Docker where its daemon answers
    allow_process_for_peers: bool = False  # a bare process does not confine a stranger's job
    # Whether jobs that need it may reach public addresses: auto gives it where it was tried and holds
    network: JobNetwork = "auto"
    # In what jobs without a network and a GPU run: auto takes gVisor where the container engine has it as `runsc`,
    # runsc takes no jobs without it, default is whatever the engine itself has by default
    runtime: Literal["auto", "runsc", "default"] = "auto"
    network_max_mb: Annotated[int, Meta(ge=1, le=1_000_000_000, description="MiB")] = 10_240  # MiB to and from a job
    # Each job with a network gets a /29 of it; parts that this machine has a route to are left out
    network_range: Ipv4Network = "10.217.0.0/16"
    resolver: Ipv4Address = ""  # name server of jobs with a network; empty: this machine's own
    # Repositories or digests; empty: all that are not denied. Registries of inner networks must be named.
    image_allow: Words = ()
    image_deny: Words = ()
    run_as_image_user: bool = False  # false: as an unprivileged user, whatever the image says
    # Rows of the sandbox's test that may fail here while peers' jobs are taken all the same: names as in `nunet doctor`
    sandbox_accept: Words = ()


class Eventlog(Struct, frozen=True, kw_only=True):
    url: LogUrl = ""  # empty: SQLite in <data_dir>/events.db
    # days after which events go to compressed files in <data_dir>/archive; every command still reads them
    archive_after_days: Annotated[float, _lasting("d", "days, 0 for never", at_most=36_500)] = 0


class Files(Struct, frozen=True, kw_only=True):
    """Files that users give to peers. Received ones appear in <data_dir>/received_files."""

    # Only files below these may be sent. None: callers on this machine send what every user of it may read.
    send_folders: Annotated[
        tuple[Annotated[str, Meta(pattern="^/")], ...], Meta(description="list of absolute paths of folders")
    ] = ()
    max_mb: Annotated[int, Meta(ge=1, le=1_000_000_000, description="MiB")] = 102_400  # MiB of one received file
    max_offers: Annotated[int, Meta(ge=0, le=100, description="a number")] = 5  # of one peer that wait for a decision


class Funding(Struct, frozen=True, kw_only=True):
    """How a reported payment is checked: by both roles. `ledger` looks it up on an Ethereum chain."""

    check: Literal["trust", "ledger"] = "trust"  # trust: the reported status is believed, as in the original
    # JSON-RPC of a node; may hold a key: in the file or in DMS_FUNDING_RPC_URL, never on a command line
    rpc_url: RpcUrl = ""
    chain_id: Annotated[int, Meta(ge=0, le=2**53, description="EIP-155 chain id, 1 is Ethereum's main net")] = 0
    token_address: TokenAddress = ""  # ERC-20 contract; empty: the chain's own coin
    token_decimals: Annotated[int, Meta(ge=0, le=36, description="of the token: 10^-n NTX is its unit")] = 18
    confirmations: Annotated[int, Meta(ge=1, le=10_000, description="blocks, its own counted")] = 12
    max_payment_age: Annotated[float, _lasting("d", "days", at_least=0.001)] = 30  # days since a payment's block
    require_terms: bool = False  # a payment must carry the quote's metadata_hash, so that it pays for one job alone
    # seconds that a payment may stay unseen or unconfirmed, and the node away, before the job fails
    timeout_seconds: Annotated[float, _lasting("s", "seconds", at_least=1)] = 600


class Strangers(Struct, frozen=True, kw_only=True):
    """What a peer may take of this machine that is not on the owner's list of allowed peers, and does not run on this
    machine itself. Of each such peer; 0: no limit beyond what is offered."""

    max_minutes: Annotated[int, Meta(ge=0, le=5_256_000, description="minutes")] = 10_080  # of one job
    max_cpu_mhz: Annotated[int, Meta(ge=0, le=100_000_000, description="MHz")] = 0  # of one job
    max_memory_mb: Annotated[int, Meta(ge=0, le=1_000_000_000, description="MB")] = 0  # of one job
    max_jobs: Annotated[int, Meta(ge=0, le=100_000, description="a number")] = 10  # at once
    # percent of the CPU and of the memory that are offered, for all jobs of one such peer together
    max_share: Annotated[int, Meta(ge=1, le=100, description="percent")] = 75
    # Whether jobs are run on its word that it has paid, where funding.check is trust
    trust_payments: bool = False


class Nats(Struct, frozen=True, kw_only=True):
    """One way to log in: user and password, token, nkey, or credentials. Secrets are read from files or
    from DMS_NATS_PASSWORD and DMS_NATS_TOKEN."""

    url: str = ""  # nats://host:4222 or tls://host:4222, several with commas between; empty: no relay
    user: str = ""
    password: Secret = ""
    password_file: str = ""
    token: Secret = ""
    token_file: str = ""
    nkey_file: str = ""  # an nkey seed (SU...)
    creds_file: str = ""  # as `nsc` writes it: JWT and seed
    tls_ca: str = ""  # certificates to trust; empty: those of the system
    tls_cert: str = ""  # client certificate, with its key
    tls_key: str = ""
    # The rest is for a stream that this DMS makes; one that exists keeps what it has.
    max_age: Annotated[float, _lasting("d", "days, 0 for ever")] = 30  # days
    max_mb: Annotated[int, Meta(ge=1, le=1_000_000_000, description="MiB")] = 1024  # MiB; the oldest go first
    replicas: Annotated[int, Meta(ge=1, le=5, description="servers that hold a copy")] = 1


class Telemetry(Struct, frozen=True, kw_only=True):
    """Read so that files of the original are valid; nothing is ever sent because of them."""

    service_name: str = "NunetDMS"
    global_endpoint: str = ""
    observability_level: str = "INFO"
    telemetry_mode: str = "production"


class Settings(Struct, frozen=True, kw_only=True):
    general: General = field(default_factory=General)
    rest: Rest = field(default_factory=Rest)
    p2p: P2p = field(default_factory=P2p)
    job: Job = field(default_factory=Job)
    eventlog: Eventlog = field(default_factory=Eventlog)
    files: Files = field(default_factory=Files)
    funding: Funding = field(default_factory=Funding)
    strangers: Strangers = field(default_factory=Strangers)
    nats: Nats = field(default_factory=Nats)
    telemetry: Telemetry = field(default_factory=Telemetry)

    @property
    def events_db(self) -> Path:
        return self.general.data_dir / EVENTS_DB


OLD_NAMES = {"general.metadata_path": "general.work_dir", "job.gist_update_interval": "job.log_update_interval"}
_SECTIONS: dict[str, type[Struct]] = get_type_hints(Settings)
_KINDS: dict[str, Any] = {
    f"{section}.{name}": kind
    for section, cls in _SECTIONS.items()
    for name, kind in get_type_hints(cls, include_extras=True).items()
}
KEYS = frozenset(_KINDS)
SECRETS = frozenset(
    key
    for key, kind in _KINDS.items()
    if any(isinstance(meta, Meta) and meta.extra and "secret" in meta.extra for meta in get_args(kind)[1:])
)


class Loaded(NamedTuple):
    """sources: dotted key -> "default", "file PATH:LINE", "env NAME" or "flag". file: the one that was read."""

    settings: Settings
    sources: dict[str, str]
    warnings: list[str]
    file: Path | None


class _Found(NamedTuple):
    value: object
    source: str
    is_text: bool  # from a flag or the environment, where all is text
    place: str = ""  # "FILE:LINE:COLUMN: ", for errors


def load(
    argv_overrides: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
    *,
    cwd: Path | None = None,
    home: Path | None = None,
    system: Path = Path("/etc/nunet"),
    root: bool | None = None,
) -> Loaded:
    """The settings in force. argv_overrides: dotted key -> text; env and the rest: this process's own unless given.

    Raises ConfigError: unreadable or broken file, wrong type or range, unknown key in argv_overrides.
    """
    warnings: list[str] = []
    cwd, home = cwd or _working_folder(warnings), home or _home(warnings)
    root = os.geteuid() == 0 if root is None else root
    path, text = _read(file, [folder for folder in (cwd, home and home / ".nunet", system) if folder], warnings)
    in_file = _from_file(path, text, warnings) if path else {}
    if path is not None:
        warnings += _open_secrets(path, in_file)
    layers = [
        in_file,
        _from_env(os.environ if env is None else env, warnings),
        _from_flags(argv_overrides or {}),
    ]
    found: dict[str, _Found] = {}
    for layer in layers:
        for key, item in layer.items():
            newer = OLD_NAMES.get(key, key)
            if newer == key or newer not in layer:  # in one place the newer name wins
                found[newer] = item
    values: dict[str, object] = (
        {}
        if root or home is None
        else {"general.work_dir": home / ".nunet", "general.data_dir": home / ".nunet" / "data"}
    )
    values |= {key: _convert(key, item, cwd, home) for key, item in found.items()}
    if "general.work_dir" in found and "general.data_dir" not in found:
        values["general.data_dir"] = values["general.work_dir"]  # the original kept its database there
    sources = {key: found[key].source if key in found else "default" for key in _KINDS}
    return Loaded(_build(values), sources, warnings, path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of dms_config.json (once its comments are taken out)."""
    schema: dict[str, Any] = as_shown(msgspec.json.schema(Settings, schema_hook=_path_schema))
    for definition in schema["$defs"].values():
        for setting in definition["properties"].values():
            if setting.get("type") == "number":  # all of them durations
                setting |= {"type": ["number", "string"], "pattern": f"^{PATTERN}$"}
            elif setting.get("type") == "array":
                setting["type"] = ["array", "string"]
    network = schema["$defs"]["Job"]["properties"]["network"]
    network["anyOf"] = [{"enum": network.pop("enum")}, {"type": "boolean"}]  # which it once was
    return schema


def _path_schema(kind: type) -> dict[str, Any]:
    if kind is Path:
        return {"type": "string"}
    raise NotImplementedError(kind)


def _build(values: Mapping[str, object]) -> Settings:
    sections: dict[str, dict[str, object]] = {name: {} for name in _SECTIONS}
    for key, value in values.items():
        section, name = key.split(".")
        sections[section][name] = value
    made: dict[str, Any] = {name: cls(**sections[name]) for name, cls in _SECTIONS.items()}
    return Settings(**made)


# The three places a value can come from


def _working_folder(warnings: list[str]) -> Path | None:
    try:
        return Path.cwd()
    except OSError as error:
        warnings.append(f"the working directory can't be read ({error.strerror}): no {FILE_NAME} is looked for there")
        return None


def _home(warnings: list[str]) -> Path | None:
    """None for a user without an entry in passwd and without HOME, as in many a container."""
    try:
        home = Path.home()
        str(home).encode()
    except RuntimeError:
        warnings.append("there is no home directory: HOME is not set, and the user is not in passwd")
        return None
    except UnicodeEncodeError:
        warnings.append("the home directory is left out: its name is not UTF-8")
        return None
    return home


def _read(named: Path | None, folders: Sequence[Path], warnings: list[str]) -> tuple[Path | None, str]:
    for path in [named] if named else [folder / FILE_NAME for folder in folders]:
        try:
            return path, path.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, NotADirectoryError) as error:
            if named:
                raise ConfigError(f"{path}: there is no such configuration file") from error
        except OSError as error:
            if named or not isinstance(error, PermissionError):
                raise ConfigError(f"{path}: the configuration file can't be read: {error.strerror}") from error
            warnings.append(f"{path} is left out: {error.strerror}")  # it is for others, who may have secrets in it
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: the configuration file is not UTF-8 at byte {error.start}") from error
    return None, ""


def _open_secrets(path: Path, found: Mapping[str, _Found]) -> list[str]:
    """A warning for each that every user of the machine can read."""
    with suppress(OSError):
        if not path.stat().st_mode & stat.S_IROTH:
            return []
    secrets = [key for key, item in found.items() if key in SECRETS and item.value and not _is_bare_url(item.value)]
    advice = "chmod o-r it, and chgrp it to the group of those who may (nunet)"
    return [f"{path}: {key} is a secret, and every user of this machine can read it: {advice}" for key in secrets]


def _is_bare_url(value: object) -> bool:
    """There is no place in it for a key."""
    return isinstance(value, str) and re.fullmatch(r"https?://[^/?#@]*/?", value) is not None


def _from_file(path: Path, text: str, warnings: list[str]) -> dict[str, _Found]:
    try:
        tree = parse(text)
        if not isinstance(tree.value, dict):
            raise Fault('expected an object: { "rest": { "port": 9999 } }', tree.offset)
        return dict(_leaves(path, text, tree.value, warnings))
    except Fault as fault:
        raise ConfigError(f"{path}:{fault.report(text)}") from fault


def _leaves(path: Path, text: str, tree: Mapping[str, Place], warnings: list[str]) -> list[tuple[str, _Found]]:
    leaves = []
    for written_section, place in tree.items():
        section = written_section.lower()
        if section not in _SECTIONS:
            warnings.append(f"{path}:{place.line(text)}: unknown key {written_section}, ignored")
            continue
        if not isinstance(place.value, dict):
            raise Fault(f"{section}: expected an object with settings", place.offset)
        for name, leaf in place.value.items():
            key = f"{section}.{name.lower()}"
            if key not in _KINDS and key not in OLD_NAMES:
                warnings.append(f"{path}:{leaf.line(text)}: unknown key {section}.{name}, ignored")
                continue
            where = f"{path}:{leaf.line(text)}"
            leaves.append((key, _Found(leaf.plain(), f"file {where}", False, f"{where}:{leaf.column(text)}: ")))
    return leaves


def _from_env(env: Mapping[str, str], warnings: list[str]) -> dict[str, _Found]:
    found = {}
    for name, value in env.items():
        prefix, section, key = (*name.upper().split("_", 2), "", "")[:3]
        if prefix != "DMS" or section.lower() not in _SECTIONS:
            continue
        dotted = f"{section}.{key}".lower()
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"environment variable {name}: its value is not UTF-8") from error
        if dotted in _KINDS or dotted in OLD_NAMES:
            found[dotted] = _Found(value, f"env {name}", True, f"environment variable {name}: ")
        else:
            warnings.append(f"environment variable {name}: there is no setting {dotted}, ignored")
    return found


def _from_flags(overrides: Mapping[str, str]) -> dict[str, _Found]:
    found = {}
    for written, value in overrides.items():
        key = written.lower()
        if key not in _KINDS and key not in OLD_NAMES:
            raise ConfigError(f"there is no setting {written}")
        if key in SECRETS:
            place = f"{key}_file" if f"{key}_file" in _KINDS else "the configuration file"
            raise ConfigError(f"{key}: a secret does not belong on a command line; use {place} or the environment")
        found[key] = _Found(value, "flag", True)
    return found


# From what was written to what was meant


def _convert(key: str, item: _Found, cwd: Path | None, home: Path | None) -> object:
    """The typed value; raises ConfigError with the place and the key."""

    def make_path(kind: type, value: object) -> Path:
        if kind is not Path or not isinstance(value, str) or not value:
            raise ValueError(f"Expected the path of a folder, got {value!r}")
        return _absolute(value, cwd, home)

    kind = _KINDS[key]
    metas = [m for m in get_args(kind)[1:] if isinstance(m, Meta)] if get_origin(kind) is Annotated else []
    seconds = next((m.extra["seconds"] for m in metas if m.extra and "seconds" in m.extra), None)
    try:
        older: Mapping[bool, str] = next((m.extra["older"] for m in metas if m.extra and "older" in m.extra), {})
        value = _newer(_shape(item, kind, seconds), older)
        _check_texts(value, is_host=any(m.extra and "host" in m.extra for m in metas))
        return msgspec.convert(value, kind, dec_hook=make_path)
    except (msgspec.ValidationError, ValueError) as error:
        described = "; ".join(m.description for m in metas if m.description)
        raise ConfigError(f"{item.place}{key}: {_wrong(error, described)}") from error


def _wrong(error: Exception, described: str) -> str:
    """described: what the setting is, which stands for a pattern."""
    if described and " matching regex " in str(error):
        return f"expected: {described}"
    what = located(str(error))[1] if isinstance(error, msgspec.ValidationError) else str(error)
    return what[:1].lower() + what[1:] + (f" ({described})" if described else "")


def _check_texts(value: object, *, is_host: bool) -> None:
    """Raises ValueError for one that no file or address can have."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and "\0" in text:
            raise ValueError("Expected a text without U+0000")  # which may be a secret
        if isinstance(text, str) and is_host and not _is_host(text):
            raise ValueError(f"Expected an IP address or a name, got {text!r}")


def _is_host(text: str) -> bool:
    """Whether it can be asked for, be it there or not."""
    try:
        text.strip("[]").encode("idna")
    except UnicodeError:
        return False
    return not any(c.isspace() for c in text)


def _absolute(text: str, cwd: Path | None, home: Path | None) -> Path:
    """Raises ValueError where it hangs on something that is not there."""
    if text == "~" or text.startswith("~/"):
        if home is None:
            raise ValueError(f"There is no home directory to put in place of ~, got {text!r}")
        path = home / text[2:]
    elif cwd is None and not text.startswith("/"):
        raise ValueError(f"Expected a path from / on, since there is no working directory, got {text!r}")
    else:
        path = (cwd or Path("/")) / text
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError("Expected a path in UTF-8") from None
    return path


def _shape(item: _Found, kind: Any, seconds: float | None) -> object:
    """The value in the JSON type that its setting has. Raises ValueError."""
    value, base = item.value, get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if not isinstance(value, str):
        return value
    if seconds is not None:
        return seconds_in(value, seconds if item.is_text else None) / seconds
    if get_origin(base) is tuple:
        return _list(value) if item.is_text else [value]
    if item.is_text and base is bool:
        if value.strip().lower() not in _BOOLEANS:
            raise ValueError(f"Expected true or false, got {value!r}")
        return _BOOLEANS[value.strip().lower()]
    if item.is_text and base is int:
        if not re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
            raise ValueError(f"Expected a whole number, got {value!r}")
        return int(value)
    return value


def _newer(value: object, older: Mapping[bool, str]) -> object:
    """The word for it of a setting that once was true or false."""
    said = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value
    return older[said] if older and isinstance(said, bool) else value


def _list(text: str) -> object:
    if text.lstrip().startswith("["):
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"Expected a JSON list, or texts with commas between them: {error}") from error
    return [part.strip() for part in text.split(",") if part.strip()]
