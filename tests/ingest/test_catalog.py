import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import catalog as ledger
from ingest.catalog import SCHEMA, Catalog, Fingerprint, Row
from rag.errors import IngestError
from rag.types import Document

ROW = Row(
    doc="/docs/a.md",
    doc_id="id-a",
    title="A",
    sha256="00ff",
    size=12,
    mtime_ns=1_700_000_000_123_456_789,
    status="indexed",
    pages=3,
    chunks=7,
    parser_version="1",
    chunker_version="1:200:20",
    embedder_id="minilm",
    updated_at="2030-01-02T03:04:05+00:00",
    revision="0123456789abcdef",
    fingerprint="0" * 31 + "7",
    first_seen="2029-01-02T03:04:05+00:00",
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    opened = Catalog.open(path)
    yield opened
    opened.close()


def put(catalog: Catalog, *docs: str, collection: str = "default") -> None:
    for doc in docs:
        catalog.put(collection, replace(ROW, doc=doc, doc_id=f"id of {doc}"))


class TestRows:
    def test_a_row_comes_back_as_it_was_put(self, catalog):
        catalog.put("default", ROW)
        assert catalog.get("default", "/docs/a.md") == ROW
        assert catalog.get("default", "/docs/b.md") is None
        assert catalog.get("other", "/docs/a.md") is None

    def test_putting_again_replaces(self, catalog):
        catalog.put("default", ROW)
        failed = replace(ROW, status="failed", stage="parse", reason="it is empty", chunks=0)
        catalog.put("default", failed)
        assert catalog.get("default", ROW.doc) == failed
        assert len(catalog.documents("default")) == 1

    def test_time_of_writing_is_set_where_it_is_missing(self, catalog):
        catalog.put("default", replace(ROW, updated_at=""))
        row = catalog.get("default", ROW.doc)
        assert row is not None
        assert row.updated_at.endswith("+00:00")

    def test_when_it_was_seen_first_is_set_where_it_is_missing(self, catalog):
        catalog.put("default", replace(ROW, first_seen=""))
        row = catalog.get("default", ROW.doc)
        assert row is not None
        assert row.first_seen.endswith("+00:00")

    def test_rows_are_put_all_or_none(self, catalog):
        with pytest.raises(IngestError):
            catalog.put("default", ROW, replace(ROW, doc="/b", status="done"))
        assert catalog.rows("default") == []

    def test_members_and_equal_contents_are_found(self, catalog):
        catalog.put("default", ROW, replace(ROW, doc="/docs/a.md/x", parent="/docs/a.md", sha256="11"))
        catalog.put("default", replace(ROW, doc="/docs/a.md/x/y", parent="/docs/a.md/x"))
        catalog.put("other", replace(ROW, doc="/docs/a.md/z", parent="/docs/a.md"))
        assert [row.doc for row in catalog.members("default", "/docs/a.md")] == ["/docs/a.md/x"]
        assert [row.doc for row in catalog.with_content("default", "00ff")] == ["/docs/a.md", "/docs/a.md/x/y"]

    def test_chunks_are_summed(self, catalog):
        assert catalog.chunks("default") == 0
        put(catalog, "/a", "/b")
        put(catalog, "/a", collection="other")
        assert catalog.chunks("default") == 14

    def test_moving_replaces_a_collection_at_one_blow(self, catalog):
        put(catalog, "/a", "/b")
        put(catalog, "/b", "/c", collection="default@next")
        assert catalog.collections() == ["default"]
        catalog.move("default@next", "default")
        assert [row.doc for row in catalog.rows("default")] == ["/b", "/c"]
        assert catalog.rows("default@next") == []

    def test_moving_nothing_loses_nothing(self, catalog):
        put(catalog, "/a")
        catalog.move("default@next", "default")
        assert [row.doc for row in catalog.rows("default")] == ["/a"]

    def test_removing(self, catalog):
        put(catalog, "/a", "/b")
        catalog.remove("default", "/a")
        catalog.remove("default", "/never")
        assert [document.doc for document in catalog.documents("default")] == ["/b"]

    def test_documents_are_sorted_and_carry_what_became_of_them(self, catalog):
        put(catalog, "/b", "/a", "/c")
        assert [document.doc for document in catalog.documents("default")] == ["/a", "/b", "/c"]
        catalog.put("one", replace(ROW, reason="page 2 has no text layer"))
        assert catalog.documents("one") == [
            Document(
                id="id-a",
                doc="/docs/a.md",
                title="A",
                status="indexed",
                pages=3,
                chunks=7,
                sha256="00ff",
                size=12,
                reason="page 2 has no text layer",
            )
        ]

    def test_collections_are_apart(self, catalog):
        put(catalog, "/a", collection="work")
        put(catalog, "/a", "/b", collection="home")
        assert catalog.collections() == ["home", "work"]
        catalog.remove("work", "/a")
        assert catalog.collections() == ["home"]
        assert len(catalog.documents("home")) == 2

    def test_names_of_any_bytes(self, catalog):
        doc = "/docs/" + os.fsdecode(b"caf\xe9.txt")
        catalog.put("default", replace(ROW, doc=doc))
        assert catalog.get("default", doc) is not None
        assert catalog.documents("default")[0].doc == "/docs/caf\\udce9.txt"
        catalog.remove("default", doc)
        assert catalog.documents("default") == []

    def test_a_status_that_is_none_is_refused(self, catalog):
        with pytest.raises(IngestError):
            catalog.put("default", replace(ROW, status="done"))


IDS = st.lists(st.uuids().map(str), unique=True)


class TestFingerprint:
    @staticmethod
    def of(ids: list[str]) -> str:
        fingerprint = Fingerprint()
        for id_ in ids:
            fingerprint.add(id_)
        return str(fingerprint)

    @given(ids=IDS, random=st.randoms())
    def test_the_order_is_nothing_to_it(self, ids, random):
        assert self.of(random.sample(ids, len(ids))) == self.of(ids)

    @given(ids=IDS.filter(bool), other=st.uuids().map(str))
    def test_one_less_or_another_one_shows(self, ids, other):
        assert self.of(ids[1:]) != self.of(ids)
        if other not in ids:
            assert self.of([other, *ids[1:]]) != self.of(ids)


class TestFind:
    @pytest.fixture(autouse=True)
    def known(self, catalog):
        put(catalog, "/docs/a.md", "/docs/sub/a.md", "/docs/ba.md", "/docs/100%.md")

    def found(self, catalog, name):
        return [document.doc for document in catalog.find("default", name)]

    def test_exact_path_wins_over_others_with_that_ending(self, catalog):
        assert self.found(catalog, "/docs/a.md") == ["/docs/a.md"]

    def test_file_name_finds_all_that_have_it_and_no_mere_suffix(self, catalog):
        assert self.found(catalog, "a.md") == ["/docs/a.md", "/docs/sub/a.md"]

    def test_trailing_parts(self, catalog):
        assert self.found(catalog, "sub/a.md") == ["/docs/sub/a.md"]
        assert self.found(catalog, "./sub//a.md") == ["/docs/sub/a.md"]

    def test_wildcards_mean_themselves(self, catalog):
        assert self.found(catalog, "100%.md") == ["/docs/100%.md"]
        assert self.found(catalog, "%.md") == []
        assert self.found(catalog, "") == []

    def test_path_from_here_and_through_links(self, catalog, tmp_path, monkeypatch):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        put(catalog, str(tmp_path / "real" / "a.md"))
        monkeypatch.chdir(tmp_path)
        for name in ("real/../real/a.md", "link/a.md", str(tmp_path / "link" / "a.md")):
            assert self.found(catalog, name) == [str(tmp_path / "real" / "a.md")]


class TestFile:
    def test_survives_closing(self, catalog, path):
        catalog.put("default", ROW)
        catalog.close()
        again = Catalog.open(path)
        assert again.get("default", ROW.doc) == ROW
        again.close()

    def test_a_killed_writer_loses_nothing_that_it_was_told_is_written(self, path):
        script = (
            "import os, sys; from dataclasses import replace; from pathlib import Path\n"
            "from ingest.catalog import Catalog, Row\n"
            f"catalog = Catalog.open(Path({str(path)!r}))\n"
            "for n in range(20):\n"
            "    catalog.put('default', Row(f'/{n}', 'i', 't', 's', 1, 1, 'indexed'))\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
        catalog = Catalog.open(path)
        assert len(catalog.documents("default")) == 20
        catalog.close()

    def test_threads_write_and_read_together(self, catalog):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: put(catalog, f"/{n}"), range(100)))
            seen = list(pool.map(lambda n: catalog.get("default", f"/{n}"), range(100)))
        assert all(seen)

    def test_two_at_once(self, catalog, path):
        other = Catalog.open(path)
        put(catalog, "/a")
        put(other, "/b")
        assert [document.doc for document in catalog.documents("default")] == ["/a", "/b"]
        other.close()

    def test_a_newer_catalog_is_refused_untouched(self, path):
        path.parent.mkdir()
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        connection.close()
        before = path.read_bytes()
        with pytest.raises(IngestError, match=f"has version {SCHEMA + 1}, this Footnote knows versions up to {SCHEMA}"):
            Catalog.open(path)
        assert path.read_bytes() == before

    def test_a_catalog_of_version_1_is_brought_up_to_date(self, path):
        path.parent.mkdir()
        connection = sqlite3.connect(path)
        connection.executescript(ledger._CREATE)
        old = ("default", "/a", "i", "t", "s", 1, 2, "indexed", "", "", 3, 4, "1", "1", "e", "u")
        connection.execute(f"INSERT INTO documents VALUES ({', '.join('?' * len(old))})", old)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
        connection.close()
        catalog = Catalog.open(path)
        (row,) = catalog.rows("default")
        assert (row.doc, row.chunks, row.revision, row.members) == ("/a", 4, "", 0)
        catalog.put("default", replace(row, revision="r"))
        catalog.close()

    def test_what_is_no_catalog_is_said_in_one_line(self, path):
        path.parent.mkdir()
        path.write_text("not a database " * 100)
        with pytest.raises(IngestError, match="cannot be used: file is not a database; move it away") as caught:
            Catalog.open(path)
        assert "\n" not in str(caught.value)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(IngestError, match="cannot be opened"):
            Catalog.open(tmp_path / "file" / "home" / "catalog.sqlite")
