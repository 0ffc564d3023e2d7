"""Well-formed archives for seeds: a name, and its content or None for a folder."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping

Tree = Mapping[str, bytes | None]


def tarred(tree: Tree) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in tree.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type, info.mode = (tarfile.DIRTYPE, 0o755) if content is None else (tarfile.REGTYPE, 0o644)
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    whole = out.getvalue()
    used = len(whole.rstrip(b"\0"))
    return whole[: used + -used % tarfile.BLOCKSIZE] + bytes(1024)  # not filled up to a record, which is 10 KiB


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zipped(tree: Tree) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tree.items():
            archive.writestr(zipfile.ZipInfo(name), content or b"")
    return out.getvalue()
