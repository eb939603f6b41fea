"""Downloads from a server in a thread: resumed, verified, refused, unpacked."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest

from snndelay.data import download, open_clips, open_recordings
from snndelay.data.archives import ARCHIVES, SPEECH_COMMANDS, Archive
from snndelay.data.making import alone_in
from snndelay.errors import DataError

from ..helpers_formats import mutants
from ..helpers_http import served

BODY = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(download, "WAIT_S", 0)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


@pytest.fixture
def server():
    with served({"a.zip": BODY}) as files:
        yield files


def archive(server, md5: str | None = MD5) -> Archive:
    return Archive("a.zip", server.url + "a.zip", md5)


def test_a_file_arrives_once(server, tmp_path):
    for _ in range(2):
        path = download.download(archive(server), tmp_path / "new")
        assert path == tmp_path / "new" / "a.zip" and path.read_bytes() == BODY
    assert server.asked == [""], "fetched what was there"
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_stopped_download_goes_on(server, tmp_path, ranges):
    (tmp_path / "a.zip.part").write_bytes(BODY[:100_001])
    server.ranges = ranges
    assert download.download(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == ["bytes=100001-"]


def test_broken_connections_are_taken_up_within_one_call(server, tmp_path):
    server.break_after = [70_000, 0, 90_000]
    assert download.download(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == ["", "bytes=70000-", "bytes=70000-", "bytes=160000-"]


def test_a_server_that_never_sends_more_is_given_up_and_the_part_stays(server, tmp_path):
    server.break_after = [70_000, *[0] * download.TRIES]
    with pytest.raises(DataError, match=r"broke at 70,000 of 300,000.*goes on after 70,000 bytes"):
        download.download(archive(server), tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == BODY[:70_000]


@pytest.mark.parametrize("trickle", [0, 7])
def test_a_connection_that_stalls_or_trickles_has_a_limit(server, tmp_path, monkeypatch, trickle):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "TRIES", 3)
    server.trickle, begun = trickle, time.monotonic()
    with pytest.raises(DataError, match="timed out" if not trickle else "bytes came in"):
        download.download(archive(server), tmp_path)
    assert time.monotonic() - begun < 10 and len(server.asked) == 3
    server.trickle = None
    assert download.download(archive(server), tmp_path).read_bytes() == BODY


def test_one_process_at_a_time_downloads_into_a_folder(server, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCHIVES, ("SHD", True), archive(server))
    (tmp_path / "SHD").mkdir()
    with alone_in(tmp_path / "SHD", "a test"), pytest.raises(DataError, match="another process"):
        download.fetch(tmp_path, "SHD", {"train": True}, "https://example.org")
    assert server.asked == []


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(BODY)
    assert download.download(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("found", ["a.zip.part", "a.zip"])
def test_too_long_a_part_begins_anew(server, tmp_path, found):
    (tmp_path / found).write_bytes(BODY + b"more")
    assert download.download(archive(server), tmp_path).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY) + 4}-", ""]


def test_another_file_than_the_published_one_is_refused_and_removed(server, tmp_path):
    with pytest.raises(DataError, match=r"a\.zip is not the file that was published .* removed"):
        download.download(archive(server, "0" * 32), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_missing_file_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(DataError, match="Not Found"):
        download.download(archive(server)._replace(url=server.url + "b"), tmp_path)
    assert len(server.asked) == 1


def test_too_small_a_disk_is_told_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("", (), {"free": 1000}))
    with pytest.raises(DataError, match=r"the disk has 0\.00 GB left"):
        download.download(archive(server), tmp_path)


def test_archives_within_archives_are_unpacked_beside(tmp_path):
    inner = zipped({"Caltech101/ant/image_0001.bin": b"12345"})
    (tmp_path / "a.zip").write_bytes(zipped({"outer/Caltech101.zip": inner, "outer/x": b"x"}))
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "mine").write_bytes(b"stays")
    download.unpack(tmp_path / "a.zip", tmp_path)
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["Caltech101/ant/image_0001.bin", "a.zip", "outer/mine", "outer/x"]


def test_a_tar_is_unpacked_and_keeps_inside_its_folder(tmp_path):
    for name, good in (("in/a.npy", True), ("../out.npy", False)):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        if good:
            download.unpack(tmp_path / "a.tar.gz", tmp_path)
            assert (tmp_path / name).read_bytes() == b"abc"
            continue
        with pytest.raises(DataError, match="cannot be unpacked"):
            download.unpack(tmp_path / "a.tar.gz", tmp_path)
    assert not (tmp_path.parent / "out.npy").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_links_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("b"), io.BytesIO())
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "b"
        tar.addfile(member)
    with pytest.raises(DataError, match=r"cannot be unpacked .*(link|special)"):
        download.unpack(tmp_path / "a.tar.gz", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_damaged_archive_leaves_nothing(tmp_path):
    whole = zipped({"one": b"1" * 1000, "two": BODY})
    for at in (100, len(whole) // 2):
        (tmp_path / "a.zip").write_bytes(whole[:at] + b"?!?!" + whole[at + 4 :])
        with pytest.raises(DataError, match=r"a\.zip cannot be unpacked .*delete it"):
            download.unpack(tmp_path / "a.zip", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_zip_keeps_inside_its_folder(tmp_path):
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    names = ["../out", "../../out", f"{tmp_path}/out", "good"]
    (place / "a.zip").write_bytes(zipped(dict.fromkeys(names, b"1")))
    download.unpack(place / "a.zip", place)
    assert (place / "good").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


def test_damaged_archives_are_unpacked_whole_or_not_at_all(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("one/two")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"12345"))
    whole = [zipped({"one/two": b"12345" * 20, "three": b"3"}), out.getvalue()]
    (tmp_path / "in").mkdir()
    errors = 0
    for raw in mutants(whole, 500):
        path = tmp_path / "a.zip"
        path.write_bytes(raw)
        said = None
        try:
            download.unpack(path, tmp_path / "in")
        except (DataError, OSError) as error:
            errors, said = errors + 1, f"{error}"
        assert said is None or "\n" not in said
        assert said is None or not [*(tmp_path / "in").iterdir()], f"{said}: something is left"
        shutil.rmtree(tmp_path / "in")
        (tmp_path / "in").mkdir()
        assert {p.name for p in tmp_path.iterdir()} == {"in", "a.zip"}
    assert 50 < errors < 500


KILLED = """
import os, sys
from pathlib import Path
from snndelay.data import download, making
at, move = int(sys.argv[3]), os.replace
def killed(source, target):
    global at
    if "content" in str(source):
        if at == 0:
            os.kill(os.getpid(), 9)
        at -= 1
    move(source, target)
os.replace = killed
download.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_what_was_killed_while_it_unpacked_is_never_half(tmp_path, moved):
    """With n of 3 folders moved, the next look at the set moves the others."""
    names = [f"Train/{digit}/0000{digit}.bin" for digit in (1, 2, 3)]
    place = tmp_path / "NMNIST"
    (place / "Train").mkdir(parents=True)
    (place / "train.zip").write_bytes(zipped(dict.fromkeys(names, b"12345")))
    command = [sys.executable, "-c", KILLED, place / "train.zip", place, str(moved)]
    assert subprocess.run(command).returncode == -9
    assert len([*place.glob("Train/*")]) == moved and [*place.glob(".unpacking-*")]
    assert len(open_recordings("nmnist", root=str(tmp_path))) == 3
    assert not [*place.glob(".unpacking-*")]


def test_a_killed_extraction_leaves_nothing_that_counts(tmp_path):
    place = tmp_path / "SHD"
    (place / ".unpacking-x/content").mkdir(parents=True)
    (place / ".unpacking-x/owner").touch()
    (place / ".unpacking-x/content/shd_train.h5").write_bytes(b"half")
    with pytest.raises(DataError, match=r"shd_train\.h5 is missing"):
        open_clips("shd", root=str(tmp_path))
    (place / "a.zip").write_bytes(zipped({"b": b"1"}))
    download.unpack(place / "a.zip", place)
    assert sorted(p.name for p in place.iterdir()) == ["a.zip", "b"]


def test_a_part_of_a_named_set_is_fetched_and_unpacked(tmp_path, monkeypatch):
    body = zipped({"Train/1/00004.bin": b"12345"})
    with served({"train.zip": body}) as files:
        md5 = hashlib.md5(body).hexdigest()
        known = {("NMNIST", True): Archive("train.zip", files.url + "train.zip", md5)}
        monkeypatch.setattr(download, "ARCHIVES", known)
        download.fetch(tmp_path, "NMNIST", {"train": True}, "https://example.org")
        assert (tmp_path / "NMNIST/Train/1/00004.bin").read_bytes() == b"12345"
        known["NMNIST", True] = known["NMNIST", True]._replace(md5="0" * 32)
        with pytest.raises(DataError, match=r"published.*fetch it by hand from https://example"):
            download.fetch(tmp_path, "NMNIST", {"train": True}, "https://example.org")


def test_addresses_and_checksums_are_those_of_tonic(monkeypatch):
    import tonic.datasets as tonic_sets

    asked = {}
    of_tonic = {key: archive for key, archive in ARCHIVES.items() if key[0] != SPEECH_COMMANDS}
    for folder, part in of_tonic:
        kind = getattr(tonic_sets, folder)

        def note(self, key=(folder, part)):
            asked[key] = Archive(self.filename, self.url, self.file_md5)
            raise RuntimeError("noted")

        monkeypatch.setattr(kind, "download", note)
        options = {} if part is None else {"split" if folder == "SSC" else "train": part}
        with pytest.raises(RuntimeError, match="noted"):
            kind(save_to="nowhere", **options)
    assert asked == of_tonic
