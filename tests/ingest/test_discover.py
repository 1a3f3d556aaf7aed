import hashlib
import os
import uuid
from pathlib import Path

import pytest

from ingest.discover import Found, discover, doc_id_of, sha256_of
from rag.errors import IngestError, ParseError


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(root: Path, *paths: Path) -> list[str]:
    return [str(found.path.relative_to(root)) for found in discover(paths or [root])]


class TestDiscover:
    def test_walks_folders_in_sorted_order(self, tmp_path):
        make(tmp_path, "b.txt", "a/z.md", "a/b/c.pdf", "a/B.txt", "c.xyz")
        assert names(tmp_path) == ["a/B.txt", "a/b/c.pdf", "a/z.md", "b.txt", "c.xyz"]

    def test_says_size_and_time(self, tmp_path):
        make(tmp_path, "a.txt")
        os.utime(tmp_path / "a.txt", ns=(1, 1_234_567_891))
        assert list(discover([tmp_path])) == [Found(tmp_path / "a.txt", 5, 1_234_567_891)]

    def test_leaves_out_hidden_files_and_what_editors_leave_behind(self, tmp_path):
        make(tmp_path, ".git/config", ".env", "a.md", "a.md~", ".a.md.swp", "b.swp", "~$a.docx", "d/.hidden/x.md")
        assert names(tmp_path) == ["a.md"]

    def test_takes_what_is_named(self, tmp_path):
        make(tmp_path, ".notes.md", ".folder/a.md", "b~")
        assert names(tmp_path, tmp_path / ".notes.md", tmp_path / ".folder", tmp_path / "b~") == [
            ".notes.md",
            ".folder/a.md",
            "b~",
        ]

    def test_yields_nothing_twice(self, tmp_path):
        make(tmp_path, "d/a.md", "d/b.md")
        assert names(tmp_path, tmp_path / "d" / "b.md", tmp_path, tmp_path / "d") == ["d/b.md", "d/a.md"]

    def test_relative_paths_become_absolute(self, tmp_path, monkeypatch):
        make(tmp_path, "d/a.md")
        monkeypatch.chdir(tmp_path / "d")
        assert names(tmp_path, Path("../d/./a.md")) == ["d/a.md"]

    def test_a_missing_path_is_an_error_before_anything_is_done(self, tmp_path):
        make(tmp_path, "a.md")
        with pytest.raises(IngestError, match=f"no such file or folder: {tmp_path}/gone"):
            discover([tmp_path, tmp_path / "gone"])

    def test_loops_of_links_end(self, tmp_path):
        make(tmp_path, "d/a.md")
        (tmp_path / "d" / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "d" / "self").symlink_to(tmp_path / "d", target_is_directory=True)
        assert names(tmp_path) == ["d/a.md"]

    def test_linked_folders_are_followed_but_go_by_their_own_name_if_they_can(self, tmp_path):
        make(tmp_path, "in/z/a.md", "out/b.md")
        (tmp_path / "in" / "first").symlink_to(tmp_path / "in" / "z", target_is_directory=True)
        (tmp_path / "in" / "other").symlink_to(tmp_path / "out", target_is_directory=True)
        assert names(tmp_path, tmp_path / "in") == ["in/z/a.md", "in/other/b.md"]

    def test_a_dangling_link_is_reported_and_reading_it_says_why(self, tmp_path):
        (tmp_path / "a.md").symlink_to(tmp_path / "gone")
        (found,) = discover([tmp_path])
        assert (found.size, found.mtime_ns) == (0, 0)
        with pytest.raises(ParseError, match="cannot be read: No such file"):
            sha256_of(found.path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
    def test_a_forbidden_folder_is_reported(self, tmp_path):
        make(tmp_path, "d/a.md")
        (tmp_path / "d").chmod(0)
        try:
            assert names(tmp_path) == ["d"]
        finally:
            (tmp_path / "d").chmod(0o700)


class TestIdentity:
    def test_sha256(self, tmp_path):
        content = bytes(range(256)) * 10_000
        (tmp_path / "a").write_bytes(content)
        assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()

    def test_what_cannot_be_hashed_is_said_and_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.txt")
        for name in ("pipe.txt", "."):
            with pytest.raises(ParseError, match="not a regular file"):
                sha256_of(tmp_path / name)

    def test_doc_id_is_a_uuid_of_the_absolute_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert doc_id_of(Path("a/../b.md")) == doc_id_of(tmp_path / "b.md") != doc_id_of(tmp_path / "c.md")
        assert uuid.UUID(doc_id_of(tmp_path)).version == 5
        assert doc_id_of(Path("/docs/a.md")) == "2162dccb-a81e-549d-9b2b-e2636b4b24d4"
