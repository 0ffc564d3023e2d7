"""Settings: which source wins, what a broken file says, and that files of the original work unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.config import Loaded, Settings, json_schema, load
from dms.config_json import Fault, parse
from dms.errors import ConfigError
from dms.masking import masked
from tests.fixtures.other_users import NOBODY, acting_as


class Places:
    """A machine of our own: the three folders that are searched."""

    def __init__(self, base: Path) -> None:
        self.cwd, self.home, self.system = base / "cwd", base / "home", base / "etc"
        for folder in (self.cwd, self.home / ".nunet", self.system):
            folder.mkdir(parents=True)

    def write(self, text: str, folder: Path | None = None) -> Path:
        path = (folder or self.cwd) / "dms_config.json"
        path.write_text(text)
        return path

    def load(
        self,
        overrides: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        file: Path | None = None,
        *,
        root: bool = True,
    ) -> Loaded:
        return load(overrides, env or {}, file, cwd=self.cwd, home=self.home, system=self.system, root=root)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


# Where values come from


def test_without_any_source_the_defaults_hold(places: Places) -> None:
    loaded = places.load()
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert loaded.warnings == []
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.settings.rest.addr == "127.0.0.1"
    assert loaded.settings.rest.port == 9999
    assert loaded.settings.events_db == Path("/var/nunet/events.db")


def test_an_ordinary_user_gets_folders_in_the_home_folder(places: Places) -> None:
    general = places.load(root=False).settings.general
    assert general.work_dir == places.home / ".nunet"
    assert general.data_dir == places.home / ".nunet" / "data"


def test_the_originals_sample_file_works_as_it_is(places: Places) -> None:
    places.write("""{
        "p2p": {"listen_address": ["/ip4/127.0.0.1/tcp/9100", "/ip4/127.0.0.1/udp/9100/quic"]},
        "general": {"metadata_path": "/srv/nunet", "debug": true},
        "rest": {"port": 10000}
    }""")
    loaded = places.load()
    assert loaded.settings.p2p.listen_address == ("/ip4/127.0.0.1/tcp/9100", "/ip4/127.0.0.1/udp/9100/quic")
    assert loaded.settings.general.work_dir == Path("/srv/nunet")
    assert loaded.settings.general.debug is True
    assert loaded.settings.rest.port == 10000
    assert loaded.warnings == []


def test_the_first_of_the_three_folders_wins_whole(places: Places) -> None:
    places.write('{"rest": {"port": 3}}', places.system)
    assert places.load().settings.rest.port == 3
    places.write('{"rest": {"port": 2}}', places.home / ".nunet")
    assert places.load().settings.rest.port == 2
    first = places.write('{"general": {"debug": true}}', places.cwd)
    loaded = places.load()
    assert (loaded.settings.rest.port, loaded.file) == (9999, first)


def test_a_named_file_wins_over_the_search(places: Places, tmp_path: Path) -> None:
    places.write('{"rest": {"port": 1}}')
    named = tmp_path / "other.json"
    named.write_text('{"rest": {"port": 2}}')
    assert places.load(file=named).settings.rest.port == 2


def test_flags_win_over_environment_over_file_and_each_says_so(places: Places) -> None:
    path = places.write('{\n"rest": {"port": 1, "addr": "::1"},\n"general": {"debug": true}}')
    env = {"DMS_REST_PORT": "2", "DMS_REST_ADDR": "0.0.0.0"}
    loaded = places.load({"rest.port": "3"}, env)
    assert (loaded.settings.rest.port, loaded.settings.rest.addr) == (3, "0.0.0.0")
    assert loaded.sources["rest.port"] == "flag"
    assert loaded.sources["rest.addr"] == "env DMS_REST_ADDR"
    assert loaded.sources["general.debug"] == f"file {path}:3"
    assert loaded.sources["job.executor"] == "default"


def test_keys_match_without_regard_to_case(places: Places) -> None:
    places.write('{"REST": {"Port": 10000}}')
    assert places.load({"Job.Network": "true"}).settings.rest.port == 10000


def test_the_newer_of_two_names_wins_in_one_file_but_a_flag_by_the_older_name_wins_over_it(
    places: Places,
) -> None:
    places.write('{"general": {"work_dir": "/new", "metadata_path": "/old"}}')
    assert places.load().settings.general.work_dir == Path("/new")
    assert places.load({"general.metadata_path": "/flag"}).settings.general.work_dir == Path("/flag")


def test_folders_may_be_given_relative_or_from_home(places: Places) -> None:
    places.write('{"general": {"work_dir": "~/dms", "data_dir": "data"}}')
    general = places.load().settings.general
    assert (general.work_dir, general.data_dir) == (places.home / "dms", places.cwd / "data")


# Values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/1.2.3.4/tcp/1", ("/ip4/1.2.3.4/tcp/1",)),
        ("/ip4/1.2.3.4/tcp/1, /ip6/::/tcp/2", ("/ip4/1.2.3.4/tcp/1", "/ip6/::/tcp/2")),
        ('["/ip4/1.2.3.4/tcp/1"]', ("/ip4/1.2.3.4/tcp/1",)),
        ("", ()),
    ],
)
def test_lists_in_the_environment_are_json_or_have_commas(places: Places, text: str, expected: tuple[str, ...]) -> None:
    loaded = places.load(env={"DMS_P2P_LISTEN_ADDRESS": text})
    assert loaded.settings.p2p.listen_address == expected


def test_a_single_text_is_a_list_of_one_in_the_file(places: Places) -> None:
    places.write('{"p2p": {"listen_address": "/ip4/0.0.0.0/tcp/9001"}}')
    assert places.load().settings.p2p.listen_address == ("/ip4/0.0.0.0/tcp/9001",)


@pytest.mark.parametrize(
    ("key", "written", "in_unit_of_key"),
    [
        ("funding_window", '"10m"', 600),
        ("funding_window", "90", 90),
        ("provider_grace", '"1.5h"', 5400),
        ("log_update_interval", '"90s"', 1.5),
        ("cleanup_interval", '"12h"', 0.5),
        ("cleanup_interval", "3", 3),
        ("answer_timeout", '"500 ms"', 0.5),
    ],
)
def test_durations_are_numbers_in_the_unit_of_the_key_or_texts_with_their_own(
    places: Places, key: str, written: str, in_unit_of_key: float
) -> None:
    places.write(f'{{"job": {{"{key}": {written}}}}}')
    assert getattr(places.load().settings.job, key) == in_unit_of_key


@pytest.mark.parametrize(
    "addr",
    ["0.0.0.0", "::", "[::1]", "::ffff:127.0.0.1", "fe80::1%eth0", "localhost", "dms.example.org.", "bücher.example"],
)
def test_a_rest_address_is_a_number_or_a_name(places: Places, addr: str) -> None:
    assert places.load(env={"DMS_REST_ADDR": addr}).settings.rest.addr == addr


@pytest.mark.parametrize("text", ["true", "1", "YES", "on"])
def test_yes_is_said_in_many_ways_in_the_environment(places: Places, text: str) -> None:
    assert places.load(env={"DMS_JOB_RUN_AS_IMAGE_USER": text}).settings.job.run_as_image_user is True


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", "internet"), ("false", "none"), ('"yes"', "internet"), ('"auto"', "auto"), ('"none"', "none")],
)
def test_the_network_of_jobs_was_once_true_or_false(places: Places, written: str, meant: str) -> None:
    assert places.load().settings.job.network == "auto"
    places.write(f'{{"job": {{"network": {written}}}}}')
    assert places.load().settings.job.network == meant
    assert places.load(env={"DMS_JOB_NETWORK": written.strip('"')}).settings.job.network == meant


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"DMS_REST_PORT": "70000"}, "rest.port: a whole number of at most 65535 is expected"),
        ({"DMS_REST_PORT": "-1"}, "rest.port: a whole number of at least 0 is expected"),
        ({"DMS_REST_PORT": "http"}, "rest.port: expected a whole number, got 'http'"),
        ({"DMS_GENERAL_DEBUG": "maybe"}, "general.debug: expected true or false, got 'maybe'"),
        ({"DMS_JOB_EXECUTOR": "podman"}, "job.executor: invalid enum value 'podman'"),
        ({"DMS_JOB_FUNDING_WINDOW": "soon"}, "job.funding_window: expected a number or a text such as 90s"),
        ({"DMS_JOB_FUNDING_WINDOW": "nan"}, "job.funding_window: expected a number"),
        (
            {"DMS_P2P_BOOTSTRAP_PEERS": "example.org:9000"},
            "p2p.bootstrap_peers: expected: multiaddresses such as /ip4/",
        ),
        ({"DMS_P2P_BOOTSTRAP_PEERS": "[oops"}, "p2p.bootstrap_peers: expected a JSON list"),
        ({"DMS_EVENTLOG_URL": "mysql://db"}, "eventlog.url: expected: empty, sqlite:///FILE or"),
        ({"DMS_GENERAL_DATA_DIR": ""}, "general.data_dir: expected the path of a folder"),
    ],
)
def test_a_bad_value_in_the_environment_names_variable_and_setting(
    places: Places, env: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        places.load(env=env)
    assert str(caught.value).startswith(f"environment variable {next(iter(env))}: {said}")


# Broken and odd files


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ('{\n  "rest": {\n    "port" 10000\n  }\n}', 3, 12, "expected a colon after the key port"),
        ('{\n  "rest": {"port": 1,}\n}', 2, 21, "this comma is one too many"),
        ('{\n  "rest": {"port": 1}', 2, 22, "expected a comma or }, but the file ends here"),
        ('{"rest": {"port": 1} "p2p": {}}', 1, 22, "expected a comma or }"),
        ('{"rest": {port: 1}}', 1, 11, "expected a key in double quotes"),
        ('{"rest": {"port": nine}}', 1, 19, "expected a value"),
        ('{"rest": {"port": NaN}}', 1, 19, "NaN is not a number"),
        ('{"rest": {"addr": "never ended}}', 1, 19, "unterminated string"),
        ('{"rest": {"port": 1, "PORT": 2}}', 1, 22, "the key PORT is here twice"),
        ("{} /* never closed", 1, 4, "this comment is never closed"),
        ("{} {}", 1, 4, "expected nothing more"),
        ("", 1, 1, "the file ends where a value was expected"),
        ("[]", 1, 1, "expected an object"),
        ('{"rest": 9999}', 1, 10, "rest: expected an object with settings"),
        ('{\n"rest": {"port": "9999"}}', 2, 18, "rest.port: a whole number is expected, not text"),
        ('{"general": {"debug": "true"}}', 1, 23, "general.debug: true or false is expected, not text"),
        ('{"p2p": {"listen_address": [9000]}}', 1, 28, "p2p.listen_address: text is expected, not a whole number"),
        ('{"job": {"funding_window": 1e999}}', 1, 28, "job.funding_window: a number of at most"),
        ("[" * 1000, 1, 52, "this is nested too deeply"),
        ('{"general": {"data_dir": "/var/\\u0000"}}', 1, 26, "general.data_dir: expected a text without U+0000"),
        ('{"rest": {"tls_cert": "\\u0000"}}', 1, 23, "rest.tls_cert: expected a text without U+0000"),
        ('{"files": {"send_folders": ["/a\\u0000"]}}', 1, 28, "files.send_folders: expected a text without U+0000"),
        ('{"rest": {"addr": "127.0.0..1"}}', 1, 19, "rest.addr: expected an IP address or a name"),
        ('{"rest": {"addr": "a b"}}', 1, 19, "rest.addr: expected an IP address or a name"),
        ('{"rest": {"addr": "127.0.0.1\\n"}}', 1, 19, "rest.addr: expected an IP address or a name"),
    ],
)
def test_a_fault_in_the_file_is_named_with_file_line_and_column(
    places: Places, text: str, line: int, column: int, said: str
) -> None:
    path = places.write(text)
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert str(caught.value).startswith(f"{path}:{line}:{column}: {said}")


def test_a_caret_points_at_the_fault(places: Places) -> None:
    places.write('{\n\t"rest": {"port" 10000}\n}')
    with pytest.raises(ConfigError) as caught:
        places.load()
    _, shown, caret = str(caught.value).split("\n")
    assert shown[caret.index("^") :].startswith("10000}")


def test_comments_are_skipped_but_not_inside_texts(places: Places) -> None:
    places.write("""// first
    {   /* over
           lines */
        "nats": {"url": "nats://host:4222" /* "url": 1 */}, // last "quote
        "rest": {"allowed_origins": ["https://a/*b*/"]}
    }""")
    settings = places.load().settings
    assert settings.nats.url == "nats://host:4222"
    assert settings.rest.allowed_origins == ("https://a/*b*/",)


def test_unknown_keys_are_warnings_with_their_line(places: Places) -> None:
    path = places.write('{\n"rest": {"colour": 1},\n"future": {}}')
    loaded = places.load(env={"DMS_REST_PROT": "1", "DMS_HOME": "x", "PATH": "/bin"})
    assert loaded.settings == Settings()
    assert loaded.warnings == [
        f"{path}:2: unknown key rest.colour, ignored",
        f"{path}:3: unknown key future, ignored",
        "environment variable DMS_REST_PROT: there is no setting rest.prot, ignored",
    ]


def test_an_unknown_flag_is_an_error(places: Places) -> None:
    with pytest.raises(ConfigError, match=r"no setting rest\.prot$"):
        places.load({"rest.prot": "1"})


def test_a_named_file_that_is_missing_or_unreadable_is_an_error(places: Places, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such configuration file"):
        places.load(file=tmp_path / "none.json")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        places.load(file=tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 7"):
        places.load(file=tmp_path / "latin.json")


def test_a_file_that_is_for_others_is_left_out_with_a_warning_unless_it_is_named() -> None:
    with TemporaryDirectory(dir="/tmp") as name:  # that everybody may enter: pytest's own is private
        Path(name).chmod(0o755)
        places = Places(Path(name))
        theirs = places.write('{"rest": {"port": 5}}', places.system)
        theirs.chmod(0o600)
        with acting_as(NOBODY):
            loaded = places.load()
            with pytest.raises(ConfigError, match="can't be read: Permission denied"):
                places.load(file=theirs)
    assert (loaded.file, loaded.settings.rest.port) == (None, 9999)
    assert loaded.warnings == [f"{theirs} is left out: Permission denied"]


@pytest.mark.parametrize(
    ("section", "mode", "secret"),
    [
        ({"nats": {"password": "open-sesame"}}, 0o644, "nats.password"),
        ({"nats": {"token": "open-sesame"}}, 0o604, "nats.token"),
        ({"funding": {"rpc_url": "https://host/v3/open-sesame"}}, 0o644, "funding.rpc_url"),
        ({"funding": {"rpc_url": "https://open-sesame@host"}}, 0o644, "funding.rpc_url"),
        ({"funding": {"rpc_url": "http://127.0.0.1:8545/"}}, 0o644, ""),
        ({"nats": {"password": ""}}, 0o644, ""),
        ({"nats": {"password": "open-sesame"}}, 0o640, ""),
    ],
)
def test_a_secret_that_every_user_can_read_is_warned_of(
    places: Places, section: dict[str, object], mode: int, secret: str
) -> None:
    path = places.write(json.dumps(section))
    path.chmod(mode)
    warnings = places.load().warnings
    assert [warning.partition(" is a secret, and every user")[0] for warning in warnings] == (
        [f"{path}: {secret}"] if secret else []
    )
    assert "open-sesame" not in str(warnings)


def test_a_byte_order_mark_does_no_harm(places: Places) -> None:
    places.cwd.joinpath("dms_config.json").write_bytes(b'\xef\xbb\xbf{"rest": {"port": 5}}')
    assert places.load().settings.rest.port == 5


# The parser and the schema

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="abcdef/*", max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=_values, indent=st.none() | st.integers(0, 3))
def test_ordinary_json_is_read_as_the_standard_library_reads_it(value: object, indent: int | None) -> None:
    assert parse(json.dumps(value, indent=indent)).plain() == value


@given(text=st.text(alphabet='{}[]",:/*\n 1atrue', max_size=40))
def test_any_text_is_read_or_is_a_fault_inside_it(text: str) -> None:
    fault = None
    try:
        parse(text)
    except Fault as error:
        fault = error
    assert fault is None or (0 <= fault.offset <= len(text) and "^" in fault.report(text))


def test_the_schema_accepts_what_we_accept_and_refuses_what_we_refuse() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"rest": {"port": 1}, "job": {"funding_window": "10m"}, "p2p": {"listen_address": "/ip4/::/tcp/1"}}
    jsonschema.validate(good, schema)
    for bad in ({"rest": {"port": 70000}}, {"job": {"funding_window": "soon"}}, {"job": {"executor": "podman"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


# Every key, every way

ORIGINAL = {  # what the original's dms_config.json may hold, with its defaults where we keep them
    "general.work_dir": Path("/etc/nunet"),
    "general.data_dir": Path("/var/nunet"),
    "general.debug": False,
    "rest.addr": "127.0.0.1",
    "rest.port": 9999,
    "p2p.listen_address": ("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic"),
    "p2p.bootstrap_peers": (),  # its own nodes are not ours to load
    "job.log_update_interval": 2,
    "job.target_peer": "",
    "job.cleanup_interval": 3,
    "telemetry.service_name": "NunetDMS",
    "telemetry.global_endpoint": "",  # nothing is sent anywhere
    "telemetry.observability_level": "INFO",
    "telemetry.telemetry_mode": "production",
}


def value_of(loaded: Loaded, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(loaded.settings, section), name)


@pytest.mark.parametrize("key", ORIGINAL)
def test_each_key_of_the_original_is_known_and_has_its_default(places: Places, key: str) -> None:
    assert value_of(places.load(), key) == ORIGINAL[key]


def test_the_older_names_are_read_for_the_newer_ones(places: Places) -> None:
    places.write('{"general": {"metadata_path": "/old"}, "job": {"gist_update_interval": 7}}')
    loaded = places.load()
    assert (loaded.settings.general.work_dir, loaded.settings.job.log_update_interval) == (Path("/old"), 7)
    assert loaded.warnings == []


def another(value: object, key: str) -> str:
    """A text that sets the key to something else than its default."""
    chosen = {
        "job.executor": "process",
        "rest.public_url": "https://dms.example.org:8443",
        "job.runtime": "default",
        "job.network": "none",
        "job.network_range": "192.168.240.0/24",
        "job.resolver": "192.168.1.1",
        "eventlog.url": "sqlite:///tmp/events.db",
        "funding.check": "ledger",
        "funding.rpc_url": "https://127.0.0.1:8545",
        "rest.addr": "192.0.2.7",
        "funding.token_address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "nats.replicas": "3",
    }.get(key)
    if chosen is not None:
        return chosen
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int | float):
        return str(value + 1)
    return "/srv/other"


@pytest.mark.parametrize("key", sorted(load({}, {}).sources))
def test_each_setting_can_be_set_in_the_environment(places: Places, key: str) -> None:
    name = "DMS_" + key.replace(".", "_").upper()
    default = value_of(places.load(), key)
    loaded = places.load(env={name: another(default, key)})
    assert value_of(loaded, key) != default
    assert loaded.sources[key] == f"env {name}"
    assert loaded.warnings == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("nats://me:pw@host:4222", "nats://me:***@host:4222"),
        ("nats://me:p@ss/w:rd@host:4222", "nats://me:***@host:4222"),
        ("nats://a:one@h1:4222,nats://b:two@h2:4222", "nats://a:***@h1:4222,nats://b:***@h2:4222"),
        ("nats://s3cr3t-token@host:4222", "nats://***@host:4222"),
        ("postgresql://me@host/dms?sslmode=require", "postgresql://me@host/dms?sslmode=require"),
        ("postgresql://host/dms?user=me&password=pw", "postgresql://host/dms?user=me&password=***"),
        ("https://node.example/v3?apikey=abc", "https://node.example/v3?apikey=***"),
        ("sqlite:///var/nunet/events.db", "sqlite:///var/nunet/events.db"),
        ("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/tcp/9000"),
        ("http://localhost:9991", "http://localhost:9991"),
    ],
)
def test_addresses_are_shown_without_what_is_secret_in_them(address: str, shown: str) -> None:
    assert masked(address) == shown


@pytest.mark.parametrize(
    "line",
    [
        '"password": "open-sesame" "user": "me"',
        '"TOKEN" : "open-sesame", }',
        '"url": "nats://me:open-sesame@host:4222" "user": "me"',
        '"rpc_url": "https://node.example/open-sesame",,',
    ],
)
def test_a_fault_in_a_line_with_a_secret_is_pointed_at_without_the_secret(places: Places, line: str) -> None:
    places.write('{"nats": {\n' + line + "\n}}")
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert "open-sesame" not in str(caught.value)
    report = str(caught.value).splitlines()
    column = int(report[0].split(":")[2])
    assert report[2].index("^") == 4 + column - 1
    assert report[1][4:].startswith(line[:7])
