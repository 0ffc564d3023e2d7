"""Image references: what is one, what is the same one, and which may run."""

from __future__ import annotations

import pytest

from dms.adapters.executors.images import ImagePolicy, parse_reference
from dms.domain.image import parse_image
from dms.domain.inner_addresses import is_inner_address
from dms.errors import ImageUnavailable, InvalidInput

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("nunet/ml:2", "docker.io/nunet/ml:2"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
        ("registry.gitlab.com/nunet/ml-on-gpu/tensorflow", "registry.gitlab.com/nunet/ml-on-gpu/tensorflow:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}"),
    ],
)
def test_normalises(text: str, normal: str) -> None:
    assert str(parse_reference(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-v",
        "--privileged",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "a b",
        "a\nb",
        "UPPER",
        "a:b:c",
        "a:",
        "a@sha256:12",
        "a@md5:" + "a" * 64,
        "x" * 300,
        "x" * 5_000,
        "bücher",
        "http://a/b",
        "a/b?c",
        "$(id)",
        "a" * 64,
        DIGEST,
        "host:99999999/a",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ImageUnavailable):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Busybox", "lower case: 'library/busybox'"),
        ("nunet/Ml:1", "lower case"),
        ("https://registry.example/x", "write the name alone"),
        ("a@sha256:12", "64 hexadecimal digits"),
        ("a:-b", "is not a tag"),
        ("registry.example/" + "x/" * 200 + "x", "at most 255"),
        ("a" * 64, "local id"),
        ("a\0b", "is not a name like"),
        ("", "is empty"),
    ],
)
def test_says_what_is_wrong_and_what_is_expected(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_image(text)


INNER = [
    "127.0.0.1", "127.0.0.1:5000", "10.0.0.1", "8.8.8.8", "[::1]:5000", "[fe80::1]", "localhost", "LOCALHOST:80",
    "x.localhost", "registry:5000", "2130706433:80", "127.1:80", "0x7f.0.0.1", "017700000001:80", "printer.local",
    "metadata.google.internal", "host.docker.internal:80", "router.lan", "nas.home.arpa", "a.b.corp",
]  # fmt: skip
PUBLIC = ["docker.io", "ghcr.io", "registry.gitlab.com", "localhost.example.org:5000", "internal.example.com", "1.fm"]


@pytest.mark.parametrize("registry", INNER)
def test_a_registry_of_an_inner_network_is_asked_only_when_a_pattern_names_it(registry: str) -> None:
    reference = parse_reference(f"{registry}/team/x:1")
    for policy in (ImagePolicy(), ImagePolicy(allow=("*",)), ImagePolicy(allow=("*/x",)), ImagePolicy(allow=(DIGEST,))):
        with pytest.raises(ImageUnavailable, match=r"job\.image_allow"):
            policy.check(reference)
    named = registry.replace("[", "[[]")  # as a pattern
    if "[" not in registry:
        ImagePolicy(allow=(f"{named}/team/*",)).check(reference)
        ImagePolicy(allow=("*", f"{named}/*")).check(reference)
        with pytest.raises(ImageUnavailable):
            ImagePolicy(allow=(f"{named}/other/*",)).check(reference)
        with pytest.raises(ImageUnavailable, match="denied"):
            ImagePolicy(allow=(f"{named}/*",), deny=(f"{named}/team/x",)).check(reference)


@pytest.mark.parametrize("registry", PUBLIC)
def test_a_public_registry_is_asked(registry: str) -> None:
    ImagePolicy().check(parse_reference(f"{registry}/team/x:1"))


@pytest.mark.parametrize(
    ("address", "inner"),
    [("93.184.216.34", False), ("2606:2800:220:1::", False), ("10.0.0.1", True), ("127.0.0.1", True), ("::1", True),
     ("169.254.169.254", True), ("100.64.0.1", True), ("::ffff:10.0.0.1", True), ("fe80::1%eth0", True),
     ("224.0.0.1", True), ("0.0.0.0", True), ("fd00::1", True), ("nonsense", True), ("64:ff9b::7f00:1", True),
     ("64:ff9b::5db8:d822", False), ("64:ff9b:1::5db8:d822", True), ("2002:7f00:1::", True), ("::127.0.0.1", True),
     ("2001:0:5db8::1", True), ("fec0::1", True), ("192.0.0.8", True), ("ff0e::1", True), ("::", True),
     ("::ffff:93.184.216.34", False), ("192.88.99.1", True), ("5f00::1", True), ("2130706433", True),
     ("168.63.129.16", True), ("168.63.129.17", False), ("::ffff:168.63.129.16", True)],
)  # fmt: skip
def test_addresses_of_inner_networks_are_known(address: str, inner: bool) -> None:
    assert is_inner_address(address) is inner


@pytest.mark.parametrize(
    ("policy", "text", "allowed"),
    [
        (ImagePolicy(), "anything", True),
        (ImagePolicy(deny=("busybox",)), "docker.io/library/busybox:1.36", False),
        (ImagePolicy(deny=("busybox:1",)), "busybox:2", True),
        (ImagePolicy(allow=("busybox",)), "index.docker.io/busybox", True),
        (ImagePolicy(allow=("busybox",)), "evil.example/library/busybox", False),
        (ImagePolicy(allow=("ghcr.io/nunet/*",)), "ghcr.io/nunet/ml:1", True),
        (ImagePolicy(allow=("ghcr.io/nunet/*",)), "ghcr.io/nunet-evil/ml", False),
        (ImagePolicy(allow=("ghcr.io/nunet/*",), deny=("ghcr.io/nunet/bad",)), "ghcr.io/nunet/bad:x", False),
        (ImagePolicy(deny=(DIGEST,)), f"a@{DIGEST}", False),
        (ImagePolicy(allow=(DIGEST,)), f"a@{DIGEST}", True),
        (ImagePolicy(allow=(DIGEST,)), f"a@sha256:{'b' * 64}", False),
    ],
)
def test_policy(policy: ImagePolicy, text: str, allowed: bool) -> None:
    if allowed:
        policy.check(parse_reference(text))
        return
    with pytest.raises(ImageUnavailable):
        policy.check(parse_reference(text))


def test_a_denied_digest_is_denied_under_any_name() -> None:
    with pytest.raises(ImageUnavailable):
        ImagePolicy(deny=(DIGEST,)).check(parse_reference("innocent"), [DIGEST])


def test_an_allowed_digest_is_checked_once_it_is_known() -> None:
    policy = ImagePolicy(allow=(DIGEST,))
    policy.check(parse_reference("a"))  # not here yet
    with pytest.raises(ImageUnavailable):
        policy.check(parse_reference("a"), ["sha256:" + "b" * 64])
