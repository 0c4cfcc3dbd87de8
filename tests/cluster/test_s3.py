"""infra/s3/server.sh: what it says it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from .servers import S3, Bucket

pytestmark = pytest.mark.cluster


def daemons(folder: Path) -> list[str]:
    """The programs that run on this folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if str(folder / "ceph.conf") in (process.info["cmdline"] or []):
            found.append(process.info["name"])
    return sorted(found)


def listeners(folder: Path) -> set[str]:
    """The addresses on which its daemons listen."""
    mine = [one for one in psutil.process_iter(["cmdline"]) if str(folder / "ceph.conf") in (one.info["cmdline"] or [])]
    return {c.laddr.ip for one in mine for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_it_takes_and_gives_and_outlives_a_restart(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="a/b", Body=b"kept")
    assert daemons(bucket.folder) == ["ceph-mon", "ceph-osd", "radosgw"]
    assert listeners(bucket.folder) == {"127.0.0.1"}
    bucket.stop()
    assert daemons(bucket.folder) == []
    bucket.start()
    bucket.start()  # a second time changes nothing
    assert daemons(bucket.folder) == ["ceph-mon", "ceph-osd", "radosgw"]
    assert bucket.client.get_object(Bucket=bucket.name, Key="a/b")["Body"].read() == b"kept"


def test_its_keys_are_its_owners_alone(bucket: Bucket) -> None:
    assert (bucket.folder / "env.sh").stat().st_mode & 0o077 == 0
    assert (bucket.folder / "secret").stat().st_mode & 0o077 == 0


def test_without_its_programs_it_names_the_packages(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("bash", "realpath", "env"):
        (bare / program).symlink_to(Path("/usr/bin") / program)
    told = subprocess.run(
        [S3, "start", tmp_path / "s3"], env={"PATH": str(bare)}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw" in told.stderr
    assert len(told.stderr.splitlines()) == 1
