"""The command line as scripts see it: exit codes, one JSON object on stdout, one line for an error."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.catalog import Catalog, Row
from rag.priority import YIELDING
from rag.settings import Settings
from ui.cli import main

ROOT = Path(__file__).parents[2]


def footnote(*arguments: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    code = exit_.value.code
    return code if isinstance(code, int) else 0


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a failing command says."""
    assert footnote(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_imports_nothing_heavy() -> None:
    """`footnote --help` is quick because it loads none of the libraries that are slow to load."""
    code = (
        "import sys\n"
        "from ui.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'openvino', 'gradio', 'numpy', 'pydantic', 'unstructured', 'llama_index',"
        " 'qdrant_client', 'fastapi', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "ingest" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["search"], ["search", "q", "-k", "0"], ["ingest"], ["bench", "x"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert footnote(*arguments) == 2


@pytest.mark.parametrize("command", ["search", "ask"])
def test_a_collection_that_does_not_exist(capsys: pytest.CaptureFixture[str], command: str) -> None:
    line = error_of(capsys, command, "What is this?", "--collection", "nope")
    assert "'nope'" in line
    assert "footnote ingest PATH --collection nope" in line


def test_docs_of_a_collection_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'nope'" in error_of(capsys, "docs", "--collection", "nope")
    assert "'nope'" in error_of(capsys, "remove", "a.md", "--collection", "nope")


def test_docs_of_an_empty_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert footnote("docs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"collection": "default", "documents": []}


def test_remove_of_an_unknown_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stands for 0 documents" in error_of(capsys, "remove", "nothing.md")


def test_a_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_PASSAGES", "many")
    assert "passages" in error_of(capsys, "docs")


def test_a_bad_collection_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "collection" in error_of(capsys, "docs", "--collection", "../../etc")


def test_an_error_is_also_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert footnote("search", "q", "--collection", "nope", "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "CollectionMissing"
    assert "'nope'" in record["error"]


def test_a_mistyped_path_leaves_no_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in error_of(capsys, "ingest", str(tmp_path / "nowhere"), "--home", str(tmp_path / "h"))
    assert not (tmp_path / "h" / "collections").exists()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FOOTNOTE_EMBED_MODEL", "/no/such/weights", "no weights at /no/such/weights"),
        ("FOOTNOTE_EMBED_MODEL", "some-org/some-model", "hf download some-org/some-model"),
        ("FOOTNOTE_QDRANT_URL", "http://127.0.0.1:9", "docker compose up -d qdrant"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    value: str,
    says: str,
) -> None:
    (tmp_path / "a.txt").write_text("The rent is 900 euros.")
    monkeypatch.setenv(variable, value)
    assert says in error_of(capsys, "ingest", str(tmp_path / "a.txt"))


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = error_of(capsys, "chat", "--port", str(port))
    assert str(port) in line
    assert "--port" in line


def test_doctor_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert footnote("doctor", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in record["checks"]}
    assert record["ok"]
    assert "sha256" in checks["embedder weights"]["detail"]
    assert "sha256" in checks["language model"]["detail"]
    monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "some-org/some-model")
    assert footnote("doctor", "--json") == 3
    record = json.loads(capsys.readouterr().out)
    missing = [check for check in record["checks"] if not check["ok"]]
    assert [check["name"] for check in missing] == ["language model"]
    assert "hf download some-org/some-model" in missing[0]["remedy"]


def listed(capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    """Names of the documents that `footnote docs` lists."""
    assert footnote("docs", "--json", *flags) == 0
    return [Path(row["doc"]).name for row in json.loads(capsys.readouterr().out)["documents"]]


@pytest.fixture
def ledger(settings: Settings) -> None:
    """Three documents in the catalog of the default home."""
    row = Row("/d/a/lease.pdf", "1", "Lease", "00", 1, 1, "indexed", date="2023-05-17", own='[["author", "Ana"]]')
    letter = replace(row, doc="/d/b/letter.eml", doc_id="2", date="2024-05-17", given='[["project", "Aurora"]]')
    memo = replace(letter, doc="/d/b/letter.eml/memo.pdf", doc_id="3", own="[]", parent="/d/b/letter.eml")
    with closing(Catalog.open(settings.home / "catalog.sqlite")) as catalog:
        catalog.put("default", row, letter, memo)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--type", "PDF"], ["lease.pdf", "memo.pdf"]),
        (["--doc", "lease.pdf", "--doc", "memo.pdf"], ["lease.pdf", "memo.pdf"]),
        (["--doc", "b/letter.eml"], ["letter.eml", "memo.pdf"]),
        (["--folder", "/d/b/"], ["letter.eml", "memo.pdf"]),
        (["--folder", "b", "--type", "pdf"], ["memo.pdf"]),
        (["--since", "2023-05-18", "--until", "2024-05-17"], ["letter.eml", "memo.pdf"]),
        (["--where", "author=ana", "--where", "project=aurora"], ["letter.eml"]),
    ],
)
def test_docs_lists_what_a_filter_matches(
    capsys: pytest.CaptureFixture[str], ledger: None, flags: list[str], names: list[str]
) -> None:
    assert listed(capsys, *flags) == names


def test_a_filter_that_matches_nothing_is_told_on_stderr(capsys: pytest.CaptureFixture[str], ledger: None) -> None:
    assert footnote("docs", "--until", "2001-01-01") == 0
    assert "no document matches the filter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--type", "docx"], "the type 'docx'; there are: eml, pdf"),
        (["--doc", "leas.pdf"], "similar are: lease.pdf"),
        (["--folder", "/e"], "the folder '/e'"),
        (["--folder", "/x/bb"], "similar are: /d/b;"),
        (["--where", "autor=Ana"], "the metadata key 'autor'; similar are: author"),
        (["--since", "2024-01-01", "--until", "2023-01-01"], "swap them"),
    ],
)
@pytest.mark.parametrize("command", [["search", "q"], ["ask", "q"], ["docs"]])
def test_a_filter_that_names_what_there_is_not(
    capsys: pytest.CaptureFixture[str], ledger: None, command: list[str], flags: list[str], says: str
) -> None:
    assert says in error_of(capsys, *command, *flags)


@pytest.mark.parametrize("flags", [["--since", "yesterday"], ["--where", "author"], ["--where", "=Ana"]])
def test_a_filter_that_cannot_be_read_is_wrong_usage(ledger: None, flags: list[str]) -> None:
    assert footnote("search", "q", *flags) == 2


def test_watching_takes_folders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The rent is 900 euros.")
    assert footnote("ingest", "--watch", str(tmp_path / "a.txt")) == 2
    assert "--watch takes folders" in capsys.readouterr().err
    assert "nowhere" in error_of(capsys, "ingest", "--watch", str(tmp_path / "nowhere"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "lease.md").write_text(
        "# Lease\n\n## Rent\n\nThe monthly rent for the flat is 900 euros, due on the third working day.\n\n"
        "## Term\n\nThe lease of the flat ends on 31 May 2027.\n"
    )
    (folder / "bread.txt").write_text("Sourdough bread needs flour, water, salt and a day of patience.\n")
    (folder / "empty.txt").write_text("")
    return folder


@pytest.mark.slow
def test_the_contract_end_to_end(capsys: pytest.CaptureFixture[str], real_settings: Settings, corpus: Path) -> None:
    """Every command that scripts depend on, on the real weights: documented keys, exit code 3 for one bad file."""

    def run(*arguments: str, code: int = 0) -> Any:
        assert footnote(*arguments, "--json") == code
        return json.loads(capsys.readouterr().out)

    ingested = run("ingest", str(corpus), code=3)
    assert ingested["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert ingested.keys() == {
        "files", "chunks", "pages", "seconds", "chunks_per_second", "peak_rss_mb", "failures",
        "interrupted", "quarantine",
    }  # fmt: skip
    assert ingested["failures"][0].keys() == {"path", "stage", "reason"}
    assert run("ingest", str(corpus), code=3)["files"]["unchanged"] == 2

    found = run("search", "How much is the rent?", "-k", "2")
    assert found["hits"][0].keys() >= {"doc", "title", "page", "start", "end", "score", "text", "via"}
    assert found["hits"][0]["doc"].endswith("lease.md")
    assert found["hits"][0]["via"].keys() <= {"dense", "bm25"}

    assert run("ingest", str(corpus), "--metadata", "project=Aurora", code=3)["files"]["indexed"] == 2
    within = run("search", "How much is the rent?", "--type", "txt", "--where", "Project=aurora")
    assert {Path(hit["doc"]).name for hit in within["hits"]} == {"bread.txt"}
    assert run("ask", "How much is the monthly rent for the flat?", "--doc", "bread.txt")["abstained"]
    assert run("search", "How much is the rent?", "--until", "1999-12-31")["hits"] == []

    asked = run("ask", "How much is the monthly rent for the flat?")
    assert not asked["abstained"]
    assert asked["timings_ms"].keys() == {"retrieve", "first_token", "generate", "verify", "total"}
    (cited, *_) = [citation for sentence in asked["sentences"] for citation in sentence["citations"]]
    assert cited.keys() >= {"doc", "page", "start", "end", "quote"}
    assert cited["doc"].endswith("lease.md")
    assert "900" in cited["quote"]
    assert run("ask", "How much is the monthly rent for the flat?")["answer"] == asked["answer"]

    declined = run("ask", "Who won the ice hockey world championship?")
    assert declined["abstained"]
    assert declined["timings_ms"]["first_token"] is None

    listed = {Path(row["doc"]).name: row for row in run("docs")["documents"]}
    assert listed["empty.txt"]["status"] == "failed"
    assert listed["empty.txt"]["reason"]
    assert run("remove", "lease.md")["removed"] == [listed["lease.md"]["doc"]]
    assert all(not hit["doc"].endswith("lease.md") for hit in run("search", "rent")["hits"])

    for question, says in (("", "empty"), ("   ", "empty"), ("word " * 20_000, "characters")):
        assert says in run("ask", question, code=1)["error"]


@pytest.mark.slow
def test_a_second_process_is_told_who_owns_the_index(real_settings: Settings, corpus: Path) -> None:
    from rag.answer import Rag

    with Rag.open(real_settings, create=True, url="http://127.0.0.1:7860"):
        code = "from ui.cli import main; main()"
        command = [sys.executable, "-c", code, "ingest", str(corpus), "--home", str(real_settings.home)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "http://127.0.0.1:7860" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


class Serving:
    """`footnote chat` in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home, told = home, ""
        while not told:  # somebody else took the port meanwhile
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.process = self.start("chat", "--port", str(self.port))
            assert self.process.stdout is not None
            told = self.process.stdout.readline()
            assert told or "cannot listen" in self.process.communicate()[1]
        self.url = json.loads(told)["url"]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in a process of its own, with JSON."""
        code = "from ui.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--json", "--home", str(self.home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints that runs beside the server."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        return json.loads(out)

    def threads(self) -> list[tuple[int, int]]:
        """Of each thread, the main one first: CPU time in ticks, and niceness."""
        tasks = sorted(Path(f"/proc/{self.process.pid}/task").iterdir(), key=lambda task: int(task.name))
        fields = [(task / "stat").read_text().rpartition(")")[2].split() for task in tasks]
        return [(int(each[11]) + int(each[12]), int(each[16])) for each in fields]

    def passages(self) -> int:
        answer = httpx.get(f"{self.url}/healthz", timeout=30)
        return int(answer.json()["passages"])


@pytest.fixture
def serving(real_settings: Settings) -> Iterator[Serving]:
    begun = Serving(real_settings.home)
    yield begun
    begun.process.send_signal(signal.SIGINT)
    begun.process.wait(60)


@pytest.mark.slow
def test_work_is_handed_to_the_process_that_serves(serving: Serving, corpus: Path) -> None:
    """Ingesting, removing and stopping beside a chat that goes on answering, and gives way to what searches."""
    ingested = serving.run("ingest", str(corpus), code=3)
    assert ingested["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert Path(ingested["quarantine"]).is_file()
    assert serving.passages() == ingested["chunks"]
    asked = httpx.post(f"{serving.url}/api/v1/ask", json={"question": "How much is the monthly rent?"}, timeout=120)
    assert asked.json()["hits"][0]["doc"].endswith("lease.md")
    assert serving.run("search", "rent")["hits"][0]["doc"].endswith("lease.md")
    answered = serving.run("ask", "How much is the monthly rent?")
    assert answered["hits"][0]["doc"].endswith("lease.md")
    assert answered["sentences"]
    if sys.platform == "linux":
        (_, first), *others = serving.threads()
        _, busiest = max(others)
        assert (first, busiest) == (os.nice(0), os.nice(0) + YIELDING)
    assert serving.run("remove", "lease.md")["removed"] == [str(corpus / "lease.md")]

    for number in range(60):
        (corpus / f"{number:02}.txt").write_text(f"Document {number} tells of subject {number} and of no other. " * 150)
    ingesting = serving.start("ingest", str(corpus))
    before = serving.passages()
    while serving.passages() == before:
        assert ingesting.poll() is None
    assert httpx.post(f"{serving.url}/api/v1/search", json={"question": "subject"}, timeout=60).json()["hits"]
    ingesting.send_signal(signal.SIGINT)
    out, err = ingesting.communicate(timeout=300)
    assert ingesting.returncode == 1, err
    record = json.loads(out)
    assert record["interrupted"]
    assert record["files"]["seen"] < 63
    assert "run the same command again to go on" in err.splitlines()[-1]
    for number in range(60):
        (corpus / f"{number:02}.txt").unlink()
    left = [row["doc"] for row in serving.run("docs")["documents"] if not Path(row["doc"]).exists()]
    pruned = serving.run("ingest", str(corpus), "--prune", code=3)
    assert pruned["files"]["removed"] == len(left) > 0
    assert not pruned["interrupted"]
    assert serving.passages() == ingested["chunks"]


@pytest.mark.slow
def test_a_server_that_is_stopped_says_how_far_it_came(serving: Serving, corpus: Path) -> None:
    for number in range(60):
        (corpus / f"{number:02}.txt").write_text(f"Document {number} tells of subject {number} and of no other. " * 150)
    ingesting = serving.start("ingest", str(corpus))
    while not serving.passages():
        assert ingesting.poll() is None
    serving.process.send_signal(signal.SIGINT)
    out, err = ingesting.communicate(timeout=300)
    assert ingesting.returncode == 1, err
    assert json.loads(out)["interrupted"]
    assert serving.process.wait(60) == 0
    again = serving.run("ingest", str(corpus), code=3)
    assert again["files"]["unchanged"] + again["files"]["indexed"] == 62


@pytest.mark.slow
def test_a_watch_ends_with_ctrl_c(real_settings: Settings, corpus: Path) -> None:
    code = "from ui.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ingest", "--watch", str(corpus), "--json", "--home", str(real_settings.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["files"]["indexed"] == 2
    (corpus / "lease.md").unlink()
    assert json.loads(process.stdout.readline())["files"]["removed"] == 1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
