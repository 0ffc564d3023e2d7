"""The first reads of a daemon are made by many threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

READING = """
import sys, threading
import msgspec
import dms.bootstrap
from dms.domain.event import EVENT_TYPES, decode
from dms.struct_types import complete

sys.setswitchinterval(1e-6)
complete()
THREADS = 8
together = threading.Barrier(THREADS)

def read():
    for topic, cls in list(EVENT_TYPES.items()):
        body = msgspec.json.encode(dict.fromkeys(cls.__struct_fields__))
        together.wait()
        for _ in range(20):
            try:
                decode(topic, cls.VERSION, body)
            except ValueError:
                pass
            except dms.errors.LogCorrupt:
                pass

threads = [threading.Thread(target=read) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(EVENT_TYPES))
"""


@pytest.mark.slow
def test_no_thread_meets_a_class_that_another_one_is_making_ready() -> None:
    """Without `complete` the process dies of a segmentation fault, each time."""
    done = subprocess.run([sys.executable, "-c", READING], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 50
