import io
import stat
import zipfile
from pathlib import Path

import pytest

from ingest.parse import archive as archives
from ingest.parse.document import Context, ParsedDocument
from ingest.parse.members import file_name, trick
from ingest.parse.table import parse
from rag.errors import ParseError

SHARED = Path(__file__).parents[2].parent / "shared" / "files"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample files are not there")


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """Write an archive and parse it."""

    def _read(data: bytes, **limits: int) -> ParsedDocument:
        path, spool = tmp_path / "box.zip", tmp_path / "spool"
        path.write_bytes(data)
        spool.mkdir()
        return parse(path, Context(spool, **limits))

    return _read


def contents(parsed: ParsedDocument) -> dict[str, bytes]:
    return {member.name: member.path.read_bytes() for member in parsed.members}


def test_members_are_taken_out_and_listed(read):
    files = {"a.txt": b"A", "deep/er/b.md": b"# B", "deep/c.zip": packed({"x.txt": b"X"})}
    parsed = read(packed(files))
    assert contents(parsed) == files
    assert parsed.text.split("\n\n") == ["a.txt", "deep/er/b.md", "deep/c.zip"]
    assert [member.path.name for member in parsed.members] == ["a.txt", "b.md", "c.zip"]
    assert (parsed.title, parsed.notes) == ("box", ())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_usual_compression_is_read(read, compression):
    data = bytes(range(256)) * 4_000
    assert contents(read(packed({"a.bin": data}, compression))) == {"a.bin": data}


def test_litter_is_left_out_without_a_word(read):
    litter = ["__MACOSX/._a.txt", ".DS_Store", "x/.git/config", "~$a.docx", "x/Thumbs.db", "desktop.ini", "folder/"]
    parsed = read(packed({**dict.fromkeys(litter, b"?"), "a.txt": b"A", "no.litter/b": b"B"}))
    assert list(contents(parsed)) == ["a.txt", "no.litter/b"]
    assert parsed.notes == ()


@pytest.mark.parametrize(
    "name", ["../up.txt", "a/../../up.txt", "/etc/passwd", "C:/x.txt", "C:\\x.txt", "\\\\host\\x", "..\\x"]
)
def test_paths_that_lead_out_are_left_out_with_a_note(read, tmp_path, name):
    parsed = read(packed({name: b"evil", "good.txt": b"G"}))
    assert contents(parsed) == {"good.txt": b"G"}
    assert parsed.notes == (f"left out, the path leads out of the archive: {name.replace(chr(92), '/')}",)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"box.zip", "good.txt"}


def test_windows_paths_are_paths(read):
    assert list(contents(read(packed({"a\\b.txt": b"B"})))) == ["a/b.txt"]


def test_devices_and_links_are_left_out_with_a_note(read):
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(packed({"aux.txt": b"x", "a.txt": b"A"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    parsed = read(buffer.getvalue())
    assert contents(parsed) == {"a.txt": b"A"}
    assert parsed.notes == (
        "left out, the name is a device's: aux.txt",
        "left out, a link or a device, not a file: link.txt",
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_the_same_name_are_both_kept(read):
    buffer = io.BytesIO(packed({"a.txt": b"one"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("a.txt", b"two")
    assert contents(read(buffer.getvalue())) == {"a.txt": b"one", "a (2).txt": b"two"}


def encrypted(data: bytes, name: str) -> bytes:
    """Mark one member as encrypted, in its own header and in the directory."""
    changed = bytearray(data)
    for signature, flags, at in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        position = data.index(signature)
        while data[position + at : position + at + len(name)] != name.encode():
            position = data.index(signature, position + 1)
        changed[position + flags] |= 1
    return bytes(changed)


def test_encrypted_members_are_named_in_a_note(read):
    data = encrypted(packed({"secret.txt": b"S", "open.txt": b"O"}), "secret.txt")
    parsed = read(data)
    assert contents(parsed) == {"open.txt": b"O"}
    assert parsed.notes == ("left out, protected by a password: secret.txt",)
    assert "secret.txt" in parsed.text


def test_an_archive_of_which_nothing_can_be_taken_says_why(read):
    with pytest.raises(ParseError, match=r"protected by a password: s.txt; unpack it"):
        read(encrypted(packed({"s.txt": b"S"}), "s.txt"))


def test_an_archive_without_files_says_so(read):
    with pytest.raises(ParseError, match="holds no files"):
        read(packed({"folder/": b"", ".hidden": b"x"}))


def test_a_damaged_member_costs_no_other(read):
    data = packed({"bad.txt": b"0123456789" * 10, "good.txt": b"G"}, zipfile.ZIP_STORED)
    parsed = read(data.replace(b"0123456789", b"0123X56789", 1))
    assert contents(parsed) == {"good.txt": b"G"}
    assert parsed.notes == ("left out, damaged: bad.txt",)


def test_names_without_a_marked_encoding_are_guessed_together(read):
    names = ["Übersicht über die Größe.txt", "Änderungen für Köln.txt", "Straße/Müller.txt"]
    stand_ins = {name: f"{number:03d}".ljust(len(name.encode("cp1252")), "x") for number, name in enumerate(names)}
    data = packed({stand_in: b"x" for stand_in in stand_ins.values()})
    for name, stand_in in stand_ins.items():
        data = data.replace(stand_in.encode(), name.encode("cp1252"))
    assert list(contents(read(data))) == names


def test_bombs_are_stopped_while_they_unpack(read, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_ALWAYS_FINE", 1 << 20)
    data = packed({"zeros.txt": bytes(20 << 20), "a.txt": b"A"})
    assert len(data) * 200 < 20 << 20
    with pytest.raises(ParseError, match=r"unpacks to more than \d+ MiB; unpack it and give the folder"):
        read(data)
    assert sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*") if path.is_file()) == 0


def test_the_limit_holds_for_all_members_together(read):
    files = {f"{number}.bin": bytes(range(256)) * 2 for number in range(4)}
    with pytest.raises(ParseError, match="unpacks to more than"):
        read(packed(files, zipfile.ZIP_STORED), max_unpacked=2_000)


def test_sizes_in_headers_are_not_believed(read):
    data = bytearray(packed({"a.txt": b"x" * 10_000, "b.txt": b"B"}))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        position = data.index(signature)
        data[position + at : position + at + 4] = (1).to_bytes(4, "little")
    parsed = read(bytes(data), max_unpacked=100)
    assert contents(parsed) == {"b.txt": b"B"}
    assert parsed.notes == ("left out, damaged: a.txt",)


def test_too_many_members_are_refused(read):
    with pytest.raises(ParseError, match=r"10,001 files, more than 10,000; unpack it"):
        read(packed(dict.fromkeys(map(str, range(10_001)), b""), zipfile.ZIP_STORED))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b/c.txt", "c.txt"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("con", "_con"),
        ('a<b>:"|?*.txt', "a_b______.txt"),
        ("x" * 300 + ".tar.gz", "x" * 117 + ".gz"),
        ("трудно.док", "трудно.док"),
    ],
)
def test_file_names_are_made_safe(name, safe):
    assert file_name(name) == safe


def test_honest_names_are_no_tricks():
    assert not any(map(trick, ["a..b/c.txt", "console.txt", "...", "a/b", "aux_/x"]))


@needs_shared
def test_a_real_archive(tmp_path):
    parsed = parse(SHARED / "simple.zip", Context(tmp_path))
    assert [(member.name, member.path.stat().st_size) for member in parsed.members] == [
        ("ideas-page.html", 6161),
        ("stanley-cups.csv", 89),
    ]
