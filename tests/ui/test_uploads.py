"""Uploads: names that can do no harm, limits, and nothing that stays in halves."""

from __future__ import annotations

import asyncio
import stat
import unicodedata
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from rag.settings import Settings
from ui.server.uploads import (
    DEEPEST,
    LONGEST,
    LONGEST_FIELD,
    MB,
    MOST_FIELDS,
    SPARE,
    DiskFull,
    Upload,
    UploadRefused,
    Uploads,
    UploadTooLarge,
    harmless,
)

BOUNDARY = "a-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
Part = tuple[str, str | None, bytes]


def file(name: str, content: bytes = b"The rent is 900 euros.") -> Part:
    return "files", name, content


def form(*parts: Part) -> bytes:
    def one(field: str, name: str | None, content: bytes) -> bytes:
        named = "" if name is None else f'; filename="{name}"'
        return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n'.encode() + content

    return b"".join(one(*part) + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(body: bytes, size: int = 7, breaks: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
    if breaks:
        raise breaks


def store(uploads: Uploads, *parts: Part) -> Upload:
    return asyncio.run(uploads.store(pieces(form(*parts)), TYPE))


def lying(uploads: Uploads) -> dict[str, str]:
    """All files below the uploads of every collection, those on their way included; locks left out."""
    files = [path for path in uploads.root.parent.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(uploads.root.parent).as_posix(): path.read_text() for path in files}


@pytest.fixture
def uploads(settings: Settings) -> Uploads:
    return Uploads(settings.home, "default", max_mb=1, max_files=3)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("lease.pdf", "lease.pdf"),
        ("flat/2027/lease.pdf", "flat/2027/lease.pdf"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//c/../d.txt", "a/b/c/d.txt"),
        ("C:\\x", "x"),
        ("c:/Users/ana/x.txt", "Users/ana/x.txt"),
        ("\\\\server\\share\\x.txt", "server/share/x.txt"),
        ("..\\..\\x.txt", "x.txt"),
        ("con.txt", "_con.txt"),
        ("Aux", "_Aux"),
        ("nul .tar.gz", "_nul .tar.gz"),
        ("lpt1/com9.log", "_lpt1/_com9.log"),
        ("console.txt", "console.txt"),
        (".htaccess", "htaccess"),
        ("...hidden. . ", "hidden"),
        ('a<b>c:d"e|f?g*h.txt', "a_b_c_d_e_f_g_h.txt"),
        ("nu\x00ll\n.txt", "null.txt"),
        ("..\x00/x.txt", "x.txt"),
        ("cafe\u0301.txt", "café.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("half\ud83d.txt", "half.txt"),
        ("документ 1.txt", "документ 1.txt"),
        (f"{'ß' * 200}.docx", f"{'ß' * 57}.docx"),
        ("x" * 300, "x" * LONGEST),
        (f"con{' ' * 200}.txt", "_con.txt"),
    ],
)
def test_names_become_harmless(sent: str, kept: str) -> None:
    assert str(harmless(sent)) == kept


@pytest.mark.parametrize("name", ["", " ", "/", "..", "../..", "\x00", "C:\\", ". . .", "\u202e", "\ud800"])
def test_a_name_of_which_nothing_is_left_is_refused(name: str) -> None:
    with pytest.raises(UploadRefused, match="cannot be the name of a file"):
        harmless(name)


def test_a_name_that_is_too_deep_is_refused() -> None:
    assert len(harmless("/".join("abcdefgh")).parts) == DEEPEST
    with pytest.raises(UploadRefused, match="more than 7 folders deep"):
        harmless("/".join("abcdefghi"))


NASTY = st.text(st.sampled_from("./\\:~ \x00\n\u0301\u202e\ud800<conCONaux1.é\u212b\u3000"), max_size=60)


@given(st.one_of(st.text(max_size=300), NASTY))
@example("con" + " " * 200 + ".txt")
@example("_" * 119 + ". ." + "x" * 30)
@example("nul." + "x" * 200)
def test_a_name_stays_inside_and_is_harmless_at_once(name: str) -> None:
    try:
        found = harmless(name)
    except UploadRefused:
        return
    assert found.parts
    assert len(found.parts) <= DEEPEST
    assert not found.is_absolute()
    for part in found.parts:
        assert 0 < len(part.encode()) <= LONGEST
        assert not set(part) & set('/\\<>:"|?*\x00\n')
        assert part == part.strip(" .") == unicodedata.normalize("NFC", part)
    root = Path("/home/uploads/default")
    assert (root / found).resolve().is_relative_to(root)
    assert (root / found).resolve() != root
    assert harmless(str(found)) == found


def test_files_lie_under_their_names_and_nobody_else_reads_them(uploads: Uploads) -> None:
    upload = store(uploads, file("flat/lease.txt", b"Rent"), ("metadata", None, b"project= Aurora=1 "), file("ä.md"))
    assert upload.paths == (uploads.root / "flat" / "lease.txt", uploads.root / "ä.md")
    assert upload.metadata == (("project", "Aurora=1"),)
    assert lying(uploads) == {"default/flat/lease.txt": "Rent", "default/ä.md": "The rent is 900 euros."}
    assert stat.S_IMODE(uploads.root.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(upload.paths[0].stat().st_mode) == 0o600
    assert uploads.name_of(str(upload.paths[0])) == "flat/lease.txt"
    assert uploads.name_of(str(uploads.root / ".." / "other" / "x.txt")) is None


@pytest.mark.parametrize("size", [1, 3, 64, 10_000])
def test_it_does_not_matter_how_the_body_is_cut(uploads: Uploads, size: int) -> None:
    content = f"\r\n--{BOUNDARY}x\r\n--".encode() * 20
    asyncio.run(uploads.store(pieces(form(file("a.txt", content), file("empty.txt", b"")), size), TYPE))
    assert (uploads.root / "a.txt").read_bytes() == content
    assert (uploads.root / "empty.txt").read_bytes() == b""


def test_the_same_name_replaces(uploads: Uploads) -> None:
    store(uploads, file("a.txt", b"old"))
    store(uploads, file("a.txt", b"new"))
    assert lying(uploads) == {"default/a.txt": "new"}


def test_what_is_within_the_limits_is_taken(uploads: Uploads) -> None:
    whole = file("a.txt", b"x" * MB)
    asyncio.run(uploads.store(pieces(form(whole, file("b.txt"), file("c.txt")), 65_536), TYPE))
    assert len(lying(uploads)) == 3


@pytest.mark.parametrize(
    ("parts", "kind", "says"),
    [
        ([file("a.txt", b"x" * (MB + 1))], UploadTooLarge, "a.txt has more than 1 MB, .* max_upload_mb"),
        ([file(f"{n}.txt") for n in range(4)], UploadTooLarge, "more than 3 files, .* max_upload_files"),
        ([("metadata", None, b"x" * (LONGEST_FIELD + 1))], UploadTooLarge, "'metadata' has more than 8192 bytes"),
        ([("metadata", None, b"a=b")] * (MOST_FIELDS + 1), UploadTooLarge, "more than 100 fields"),
        ([file("a.txt"), file("..")], UploadRefused, "cannot be the name of a file"),
        ([file("a.txt"), file("")], UploadRefused, "'' cannot be the name"),
        ([file("a.txt"), file("./a.txt")], UploadRefused, "two files of this upload are named a.txt"),
        ([file("a"), file("a/b.txt")], UploadRefused, "a is a file and a folder"),
        ([file("a.txt"), ("attachment", "b.txt", b"")], UploadRefused, "field 'attachment'; send each in"),
        ([file("a.txt"), ("tags", None, b"x=y")], UploadRefused, "the field 'tags' is not known"),
        ([file("a.txt"), ("metadata", None, b"=x")], UploadRefused, "expected as key=value, not '=x'"),
        ([("metadata", None, b"a=b")], UploadRefused, "holds no file"),
    ],
)  # fmt: skip
def test_a_refused_upload_leaves_nothing(
    uploads: Uploads, parts: Sequence[Part], kind: type[UploadRefused], says: str
) -> None:
    store(uploads, file("kept.txt", b"kept"))
    with pytest.raises(kind, match=says) as caught:
        asyncio.run(uploads.store(pieces(form(*parts), 65_536), TYPE))
    assert type(caught.value) is kind
    assert lying(uploads) == {"default/kept.txt": "kept"}


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (form(file("a.txt"))[:-20], TYPE, "broke off before its end"),
        (b"nothing of the kind", TYPE, "no multipart form"),
        (b"{}", "application/json", "not 'application/json'"),
        (form(file("a.txt")), "multipart/form-data", "with a boundary is expected"),
    ],
)
def test_what_is_no_form_is_refused(uploads: Uploads, body: bytes, kind: str, says: str) -> None:
    with pytest.raises(UploadRefused, match=says):
        asyncio.run(uploads.store(pieces(body), kind))
    assert lying(uploads) == {}


def test_what_breaks_off_leaves_nothing(uploads: Uploads) -> None:
    body = form(file("a.txt"), file("b.txt", b"x" * 5000))[:4000]
    with pytest.raises(ClientDisconnect):
        asyncio.run(uploads.store(pieces(body, breaks=ClientDisconnect()), TYPE))
    assert lying(uploads) == {}


def test_the_client_of_a_refused_upload_is_heard_out(uploads: Uploads) -> None:
    """One that is still sending would see a broken connection in the place of the reason."""
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        async for piece in pieces(form(file("a.txt", b"x" * (3 * MB))), 65_536):
            taken += len(piece)
            yield piece

    with pytest.raises(UploadTooLarge):
        asyncio.run(uploads.store(body(), TYPE))
    assert taken > 3 * MB


def test_a_disk_without_room_is_told_before_anything_is_written(settings: Settings) -> None:
    uploads = Uploads(settings.home, "default", free=lambda _path: SPARE + MB)
    with pytest.raises(DiskFull, match="has 1 MB to spare"):
        asyncio.run(uploads.store(pieces(form(file("a.txt"))), TYPE, length=2 * MB))
    store(uploads, file("a.txt"))
    full = Uploads(settings.home, "default", free=lambda _path: SPARE)
    with pytest.raises(DiskFull):
        store(full, file("b.txt"))
    assert [*lying(uploads)] == ["default/a.txt"]


def test_a_file_is_not_put_where_a_folder_is(uploads: Uploads) -> None:
    store(uploads, file("a/b.txt"))
    for name in ("a", "a/b.txt/c.txt"):
        with pytest.raises(UploadRefused, match="is a folder there, or lies in what is a file"):
            store(uploads, file(name))
    assert [*lying(uploads)] == ["default/a/b.txt"]


def test_a_link_does_not_lead_out(uploads: Uploads, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    uploads.root.mkdir(parents=True)
    (uploads.root / "link").symlink_to(outside)
    with pytest.raises(UploadRefused):
        store(uploads, file("link/x.txt"))
    uploads.discard(uploads.root / "link" / "mine.txt", later())
    assert [path.name for path in outside.iterdir()] == ["mine.txt"]


def later() -> str:
    return (datetime.now(UTC) + timedelta(seconds=60)).isoformat()


def test_a_removed_upload_goes_with_its_empty_folders(uploads: Uploads) -> None:
    first, second = store(uploads, file("a/b/x.txt"), file("a/y.txt")).paths
    uploads.discard(first, later())
    assert not (uploads.root / "a" / "b").exists()
    assert second.exists()
    uploads.discard(second, later())
    uploads.discard(second, later())
    assert list(uploads.root.iterdir()) == []


def test_an_upload_that_came_after_the_removal_was_asked_for_stays(uploads: Uploads) -> None:
    store(uploads, file("a.txt", b"old"))
    asked = datetime.now(UTC).isoformat()
    (path,) = store(uploads, file("a.txt", b"new")).paths
    uploads.discard(path, asked)
    assert path.read_text() == "new"
    uploads.discard(path, datetime.now(UTC).isoformat())
    assert not path.exists()


def test_a_users_own_file_is_never_deleted(uploads: Uploads, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("mine")
    other = Uploads(uploads.root.parent.parent, "other")
    (theirs,) = store(other, file("a.txt")).paths
    for path in (own, uploads.root / ".." / ".." / ".." / "own.txt", uploads.root, theirs):
        uploads.discard(path, later())
    assert own.exists()
    assert theirs.exists()


def test_what_a_killed_server_left_goes_with_the_next_upload(uploads: Uploads) -> None:
    left = uploads.root.parent / ".arriving" / "0123"
    left.mkdir(parents=True)
    (left / "0").write_text("half")
    left.with_suffix(".lock").touch()
    store(uploads, file("a.txt"))
    assert [*lying(uploads)] == ["default/a.txt"]
