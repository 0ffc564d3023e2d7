"""Whose trouble it is when an image can't be pulled: the engine tells it in words only."""

from __future__ import annotations

import pytest

from dms.adapters.executors.images import parse_reference
from dms.adapters.executors.pulls import FULL, NOT_GIVEN, TROUBLE, failure
from dms.errors import ImageUnavailable, NoRoomForImage, RegistryUnavailable

GET = 'Get "https://registry.example/v2/"'
SAID = [
    (ImageUnavailable, 404, "manifest for registry.example/x:1 not found: manifest unknown: manifest unknown"),
    (ImageUnavailable, 404, "pull access denied for x, repository does not exist or may require 'docker login'"),
    (ImageUnavailable, 500, "unauthorized: authentication required"),
    (ImageUnavailable, 500, "denied: requested access to the resource is denied"),
    (ImageUnavailable, 500, 'error parsing HTTP 404 response body: invalid character "<"'),
    (ImageUnavailable, 500, "unknown: <html>"),
    (ImageUnavailable, 0, "no matching manifest for linux/amd64 in the manifest list entries"),
    (ImageUnavailable, 0, "error pulling image configuration: download failed after attempts=1: unknown blob"),
    (ImageUnavailable, 400, "invalid reference format"),
    (RegistryUnavailable, 500, "toomanyrequests: You have reached your pull rate limit"),
    (RegistryUnavailable, 500, 'error parsing HTTP 429 response body: unexpected end of JSON input: ""'),
    (RegistryUnavailable, 500, "received unexpected HTTP status: 503 Service Unavailable"),
    (RegistryUnavailable, 500, f"{GET}: dial tcp 192.0.2.1:443: connect: connection refused"),
    (RegistryUnavailable, 500, f"{GET}: dial tcp: lookup registry.example on 192.0.2.53:53: no such host"),
    (RegistryUnavailable, 500, f"{GET}: dial tcp: lookup registry.example: Temporary failure in name resolution"),
    (RegistryUnavailable, 500, f"{GET}: net/http: request canceled while waiting for connection"),
    (RegistryUnavailable, 500, f"{GET}: net/http: TLS handshake timeout"),
    (RegistryUnavailable, 500, f"{GET}: x509: certificate signed by unknown authority"),
    (RegistryUnavailable, 500, f"{GET}: x509: certificate is valid for a.example, not found for registry.example"),
    (RegistryUnavailable, 500, f"{GET}: http: server gave HTTP response to HTTPS client"),
    (RegistryUnavailable, 0, "read tcp 192.0.2.2:59268->192.0.2.1:443: read: connection reset by peer"),
    (RegistryUnavailable, 0, "unexpected EOF"),
    (RegistryUnavailable, 0, "filesystem layer verification failed for digest sha256:00"),
    (NoRoomForImage, 0, "failed to register layer: write /x: no space left on device"),
    (NoRoomForImage, 0, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "words"), SAID)
def test_the_engines_words_tell_whose_trouble_it_is(kind: type[ImageUnavailable], status: int, words: str) -> None:
    found = failure(parse_reference("registry.example/x:1"), words, status)
    assert type(found) is kind
    told = str(found).removeprefix("image registry.example/x:1 can't be pulled: ")
    assert told in (NOT_GIVEN, TROUBLE, FULL), "never the engine's words: they may be an inner service's"


@pytest.mark.parametrize("name", ["denied", "not-found/unauthorized", "x/http-404", "toomanyrequests/x"])
def test_the_name_of_an_image_is_none_of_those_words(name: str) -> None:
    reference = parse_reference(f"registry.example/{name}:1")
    refused = f'Get "https://registry.example/v2/{name}/manifests/1": connect: connection refused'
    assert type(failure(reference, refused)) is RegistryUnavailable
    assert (
        type(failure(reference, f"manifest for registry.example/{name}:1: manifest unknown", 404)) is ImageUnavailable
    )
