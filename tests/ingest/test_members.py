"""Documents found in documents: attachments and members of archives, over several runs."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from ingest.catalog import Catalog
from ingest.feed import DEPTH
from ingest.pipeline import Ingestion
from ingest.writer import remove
from rag.settings import Settings
from rag.store.opening import open_store
from tests.ingest.inline import Bench, CountingEmbedder


@pytest.fixture
def bench(settings: Settings, catalog: Catalog, tmp_path: Path) -> Iterator[Bench]:
    embedder = CountingEmbedder()
    store = open_store(settings, embedder, create=True)
    (tmp_path / "in").mkdir()
    yield Bench(settings, embedder, store, catalog, tmp_path / "in")
    store.close()


def packed(files: dict[str, str | bytes] | list[tuple[str, str | bytes]]) -> bytes:
    """A ZIP archive; the same files make the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def mail(body: str, **attachments: str) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Lunch", "ann@example.org", "bob@example.org"
    message.set_content(body)
    for name, text in attachments.items():
        message.add_attachment(text.encode(), maintype="text", subtype="plain", filename=f"{name}.txt")
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=={number}==")
    return message.as_bytes()


def embedded(bench: Bench) -> str:
    """What was embedded since the last time."""
    assert isinstance(bench.embedder, CountingEmbedder)
    texts, bench.embedder.texts = bench.embedder.texts, []
    return "\n".join(texts)


def all_(status: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, status)


def held(bench: Bench) -> str:
    return "\n".join(text for texts in bench.texts().values() for text in texts)


def assert_sound(bench: Bench) -> None:
    assert bench.audit(sample=99).holds
    assert not list((bench.settings.home / "spool").glob("*"))


def test_a_mail_and_its_attachments_are_documents_of_their_own(bench: Bench) -> None:
    bench.write("m.eml", mail("Noon suits me.", menu="Soup and bread.", map="Turn left."))
    assert bench.statuses() == all_("indexed", "m.eml", "m.eml/menu.txt", "m.eml/map.txt")
    rows = bench.rows()
    assert (rows["m.eml"].members, rows["m.eml"].parent) == (2, "")
    assert bench.name(rows["m.eml/menu.txt"].parent) == "m.eml"
    assert bench.texts()["m.eml/menu.txt"] == ["Soup and bread."]
    assert rows["m.eml/menu.txt"].title == "menu"
    assert_sound(bench)


def test_archives_and_messages_within_each_other(bench: Bench) -> None:
    inner = packed({"deep.txt": "Deep down.", "letter.eml": mail("In an archive.", note="Attached in an archive.")})
    bench.write("outer.zip", packed({"inner.zip": inner, "top.txt": "On top."}))
    inside = ("inner.zip", "inner.zip/deep.txt", "inner.zip/letter.eml", "inner.zip/letter.eml/note.txt", "top.txt")
    everything = ["outer.zip", *(f"outer.zip/{name}" for name in inside)]
    assert bench.statuses() == all_("indexed", *everything)
    assert bench.texts()["outer.zip/inner.zip/letter.eml/note.txt"] == ["Attached in an archive."]
    assert_sound(bench)
    embedded(bench)
    assert bench.statuses() == all_("unchanged", *everything)
    assert (embedded(bench), bench.read) == ("", [])
    assert bench.last.summary.unchanged == len(everything)


def test_a_changed_member_alone_is_embedded(bench: Bench) -> None:
    files: dict[str, str | bytes] = {"a.txt": "First text.", "b.txt": "Second text.", "c.txt": "Third text."}
    bench.write("box.zip", packed(files))
    bench.run()
    embedded(bench)
    bench.write("box.zip", packed(files | {"b.txt": "Another text."}))
    assert bench.statuses() == {
        "box.zip": "indexed",
        "box.zip/a.txt": "unchanged",
        "box.zip/b.txt": "indexed",
        "box.zip/c.txt": "unchanged",
    }
    again = embedded(bench)
    assert "Another text." in again
    assert "First text." not in again
    assert "Third text." not in again
    assert "Second text." not in held(bench)
    assert_sound(bench)


def test_a_member_that_vanished_is_removed_with_what_was_in_it(bench: Bench) -> None:
    letter = mail("Kept in a box.", note="Attached to it.")
    bench.write("box.zip", packed({"a.txt": "First text.", "letter.eml": letter}))
    bench.run()
    bench.write("box.zip", packed({"a.txt": "First text."}))
    assert bench.statuses() == {
        "box.zip": "indexed",
        "box.zip/a.txt": "unchanged",
        "box.zip/letter.eml": "removed",
        "box.zip/letter.eml/note.txt": "removed",
    }
    assert bench.last.summary.removed == 2
    assert list(bench.rows()) == list(bench.texts()) == ["box.zip", "box.zip/a.txt"]
    assert_sound(bench)


def test_a_mail_that_becomes_a_copy_of_another_loses_its_attachments(bench: Bench) -> None:
    bench.write("a.eml", mail("Nothing attached."))
    bench.write("b.eml", mail("See the note.", note="Attached."))
    bench.run()
    embedded(bench)
    bench.write("b.eml", mail("Nothing attached."))
    assert bench.statuses() == {"a.eml": "unchanged", "b.eml": "indexed", "b.eml/note.txt": "removed"}
    assert embedded(bench) == ""
    assert_sound(bench)


def test_a_container_that_turns_bad_takes_its_members_along(bench: Bench) -> None:
    bench.write("box.zip", packed({"a.txt": "First text."}))
    bench.run()
    bench.write("box.zip", packed({"a.txt": "First text."})[:40])
    assert bench.statuses() == {"box.zip": "failed", "box.zip/a.txt": "removed"}
    assert bench.texts() == {}
    assert_sound(bench)


def test_removing_and_pruning_a_container_take_its_members_along(bench: Bench) -> None:
    for name in ("one.zip", "two.zip"):
        bench.write(name, packed({"letter.eml": mail(f"Of {name}.", note=f"In {name}.")}))
    bench.run()
    row = bench.rows()["one.zip"]
    gone = remove(row, bench.settings.collection, bench.store, bench.catalog)
    inside = ("", "/letter.eml", "/letter.eml/note.txt")
    assert {bench.name(doc) for doc in gone} == {f"one.zip{name}" for name in inside}
    (bench.folder / "one.zip").unlink()
    (bench.folder / "two.zip").unlink()
    assert bench.statuses(prune=True) == all_("removed", *(f"two.zip{name}" for name in inside))
    assert bench.store.count() == 0
    assert bench.rows() == {}


def test_pruning_leaves_the_members_of_what_is_there_alone(bench: Bench) -> None:
    bench.write("box.zip", packed({"a.txt": "First text."}))
    bench.run()
    for _ in range(2):
        assert set(bench.statuses(prune=True).values()) == {"unchanged"}


def test_a_failed_member_is_tried_again_without_embedding_the_container(bench: Bench) -> None:
    bench.write("box.zip", packed({"a.txt": "First text.", "bad.pdf": b"%PDF-1.7 and nothing more"}))
    assert bench.statuses() == {"box.zip": "indexed", "box.zip/a.txt": "indexed", "box.zip/bad.pdf": "failed"}
    assert [failure.doc for failure in bench.last.summary.failures] == [str(bench.folder / "box.zip/bad.pdf")]
    embedded(bench)
    assert bench.statuses() == {"box.zip": "unchanged", "box.zip/a.txt": "unchanged", "box.zip/bad.pdf": "failed"}
    assert embedded(bench) == ""
    assert bench.read == ["box.zip", "box.zip/bad.pdf"]
    assert bench.last.progress()[:2] == (3, 3)
    assert_sound(bench)


def test_members_that_are_missing_from_the_index_are_made_good(bench: Bench) -> None:
    """As a kill between a container and its members leaves it."""
    bench.write("box.zip", packed({"a.txt": "First text.", "b.txt": "Second text."}))
    bench.run()
    row = bench.rows()["box.zip/b.txt"]
    remove(row, bench.settings.collection, bench.store, bench.catalog)
    embedded(bench)
    assert bench.statuses() == {"box.zip": "unchanged", "box.zip/a.txt": "unchanged", "box.zip/b.txt": "indexed"}
    assert embedded(bench) == "Second text."
    assert_sound(bench)


def test_members_whose_chunks_were_lost_are_made_good(bench: Bench) -> None:
    bench.write("box.zip", packed({"a.txt": "First text.", "b.txt": "Second text."}))
    bench.run()
    bench.store.delete(bench.rows()["box.zip/b.txt"].doc_id)
    assert bench.statuses()["box.zip/b.txt"] == "indexed"
    assert bench.texts()["box.zip/b.txt"] == ["Second text."]
    assert_sound(bench)


def test_an_index_that_does_not_say_of_which_edition_members_are_is_looked_through_once(bench: Bench) -> None:
    """As one of a catalog before version 4, in which a member may be of before its container changed."""
    bench.write("box.zip", packed({"a.txt": "The old rent.", "in.zip": packed({"b.txt": "Another text."})}))
    bench.run()
    old = bench.rows()["box.zip/a.txt"]
    bench.write("box.zip", packed({"a.txt": "The new rent.", "in.zip": packed({"b.txt": "Another text."})}))
    bench.run()
    item = next(bench.store.scan(bench.rows()["box.zip/a.txt"].doc_id))
    stale = replace(item, chunk=replace(item.chunk, text="The old rent.", revision=old.revision))
    bench.store.upsert([stale])
    rows = bench.rows().values()
    bench.catalog.put(bench.settings.collection, *(replace(row, parent_revision="") for row in rows))
    row = bench.rows()["box.zip/a.txt"]
    bench.catalog.put(bench.settings.collection, replace(row, revision=old.revision, sha256=old.sha256))
    embedded(bench)
    assert set(bench.statuses().values()) == {"unchanged", "indexed"}
    assert embedded(bench) == "The new rent."
    assert bench.read == ["box.zip", "box.zip/a.txt", "box.zip/in.zip"]
    assert_sound(bench)
    bench.run()
    assert bench.read == []


def test_too_many_containers_within_each_other(bench: Bench) -> None:
    content = packed({"core.txt": "The innermost text."})
    for _ in range(DEPTH + 1):
        content = packed({"z.zip": content})
    bench.write("z.zip", content)
    statuses = bench.statuses()
    name = "z.zip" + "/z.zip" * (DEPTH + 1)
    assert statuses.pop(name) == "failed"
    assert set(statuses.values()) == {"indexed"}
    assert len(statuses) == DEPTH + 1
    assert "within each other; unpack some" in bench.rows()[name].reason
    assert_sound(bench)
    assert bench.statuses()[name] == "failed"


def test_members_of_the_same_name(bench: Bench) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        bench.write("box.zip", packed([("a.txt", "First text."), ("a.txt", "Second text.")]))
    first = bench.statuses()
    assert len(first) == 3
    assert set(first.values()) == {"indexed"}
    assert {"First text.", "Second text."} <= set(held(bench).splitlines())
    assert bench.statuses() == all_("unchanged", *first)
    assert bench.read == []
    assert_sound(bench)


def test_equal_members_are_embedded_once_they_are_known(bench: Bench) -> None:
    bench.write("one.zip", packed({"a.txt": "The same text."}))
    bench.run()
    embedded(bench)
    bench.write("two.zip", packed({"a.txt": "The same text.", "b.txt": "Another text."}))
    assert bench.statuses()["two.zip/a.txt"] == "indexed"
    assert "The same text." not in embedded(bench).splitlines()
    assert bench.texts()["two.zip/a.txt"] == ["The same text."]
    assert_sound(bench)


def test_a_container_that_was_renamed(bench: Bench) -> None:
    """Its members are copied from those of its old name, which goes when it is pruned."""
    bench.write("old.zip", packed({"a.txt": "First text.", "b.txt": "Second text."}))
    bench.run()
    embedded(bench)
    shutil.move(bench.folder / "old.zip", bench.folder / "new.zip")
    assert bench.statuses(prune=True) == all_("indexed", "new.zip", "new.zip/a.txt", "new.zip/b.txt") | all_(
        "removed", "old.zip", "old.zip/a.txt", "old.zip/b.txt"
    )
    assert not {"First text.", "Second text."} & set(embedded(bench).splitlines())
    assert_sound(bench)


def test_a_run_stopped_between_a_container_and_its_members_is_completed(bench: Bench) -> None:
    files: dict[str, str | bytes] = {f"{n}.txt": f"Member {n} of it. " * 3000 for n in range(9)}
    bench.write("box.zip", packed(files))
    ingestion = bench.begin()
    done = []
    for result in ingestion.run([bench.folder]):
        done.append(result.doc)
        ingestion.stop()
    assert len(done) < 10
    assert_sound(bench)
    assert len(bench.run()) == 10
    assert set(bench.texts()) == {"box.zip", *(f"box.zip/{name}" for name in files)}
    assert_sound(bench)


def test_the_sandbox_unpacks_and_cleans_up(bench: Bench) -> None:
    inner = packed({"deep.txt": "Deep down.", "letter.eml": mail("In an archive.", note="Attached.")})
    bench.write("outer.zip", packed({"inner.zip": inner, "bad.pdf": b"%PDF-1.7 and nothing more"}))
    ingestion = Ingestion(bench.settings, bench.embedder, bench.store, bench.catalog)
    assert [result.status for result in ingestion.run([bench.folder])].count("indexed") == 5
    assert ingestion.summary.failed == 1
    assert_sound(bench)
