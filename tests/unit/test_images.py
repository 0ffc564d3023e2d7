"""Image references: what is one, what is the same one, and which may run."""

from __future__ import annotations

import pytest

from dms.adapters.executors.images import ImagePolicy, parse_reference
from dms.errors import ImageUnavailable

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
