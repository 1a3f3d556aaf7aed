"""The shapes of what the API says about documents and jobs, with examples. Knows nothing about where it comes from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ui.server.joblist import Kind, State

DOCUMENT: dict[str, Any] = {
    "id": "5f0c7a52-21f5-5b0e-9d55-0e1f4c1d6f53",
    "doc": "/home/ana/.footnote/uploads/default/flat/lease.pdf",
    "name": "flat/lease.pdf",
    "uploaded": True,
    "title": "Lease",
    "status": "indexed",
    "pages": 7,
    "chunks": 42,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "size": 183204,
    "stage": "",
    "reason": "",
    "date": "2027-05-31",
    "metadata": {"project": ["Aurora"]},
    "parent": "",
    "members": 0,
    "added": "2027-06-01T09:30:00+00:00",
    "updated": "2027-06-01T09:30:00+00:00",
}
FAILURE = {"path": "/home/ana/.footnote/uploads/default/notes.txt", "stage": "parse", "reason": "the file is empty"}
COUNTS: dict[str, Any] = {
    "files": {"seen": 2, "indexed": 1, "unchanged": 0, "removed": 0, "failed": 1},
    "chunks": 42,
    "pages": 7,
    "seconds": 1.9,
    "chunks_per_second": 22.1,
    "peak_rss_mb": 812.5,
    "interrupted": False,
    "failures": [FAILURE],
    "quarantine": "/home/ana/.footnote/quarantine/default.jsonl",
}
JOB: dict[str, Any] = {
    "id": "0d5a3b528d0c4d3b8a573f6f4f1f3c19",
    "kind": "ingest",
    "state": "done",
    "names": ["/home/ana/.footnote/uploads/default/flat/lease.pdf", "/home/ana/.footnote/uploads/default/notes.txt"],
    "names_in_all": 2,
    "prune": False,
    "metadata": {"project": ["Aurora"]},
    "who": "ana",
    "created": "2027-06-01T09:30:00.000000+00:00",
    "started": "2027-06-01T09:30:00.100000+00:00",
    "ended": "2027-06-01T09:30:02.000000+00:00",
    "counts": COUNTS,
    "error": "",
}
PROGRESS: dict[str, Any] = {
    "state": "running",
    "files": 1,
    "of": 2,
    "pages": 7,
    "chunks": 42,
    "chunks_per_second": 22.1,
    "eta": 3.5,
    "in_hand": [{"doc": FAILURE["path"], "seconds": 0.4, "page": 0, "pages": 0}],
    "stage": "",
}
RESULT = {"doc": DOCUMENT["doc"], "status": "indexed", "pages": 7, "chunks": 42, "stage": "", "reason": ""}


def _like(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class Document(BaseModel):
    """A file that was seen, or what was found in one, and what became of it."""

    model_config = _like(DOCUMENT)

    id: str
    doc: str = Field(description="Its path on the server's machine; the name that footnotes and filters use.")
    name: str = Field(description="For people: the name it was uploaded under, or the last part of its path.")
    uploaded: bool = Field(description="Whether its file is deleted with it.")
    title: str
    status: str = Field(description="`indexed` or `failed`.")
    pages: int
    chunks: int = Field(description="Passages.")
    sha256: str
    size: int = Field(description="Bytes.")
    stage: str = Field(description="Where a failed one failed: `read`, `parse`, `chunk`, `embed` or `store`.")
    reason: str = Field(description="Why it failed, or what was left out of an indexed one.")
    date: str = Field(description="ISO day; empty where there is none.")
    metadata: dict[str, list[str]]
    parent: str = Field(description="The document that this one was found in, such as a mail; empty for a file.")
    members: int = Field(description="Documents found in this one.")
    added: str = Field(description="ISO 8601, UTC.")
    updated: str = Field(description="ISO 8601, UTC.")


class DocumentWithMembers(Document):
    """A document, with those that were found in it."""

    model_config = _like({**DOCUMENT, "inside": []})

    inside: list[Document]


class Totals(BaseModel):
    """Of all documents of the collection."""

    documents: int
    chunks: int
    bytes: int = Field(description="Size of the files, without what was found in them.")
    failed: int


class Documents(BaseModel):
    """Some documents of the collection."""

    model_config = _like(
        {"documents": [DOCUMENT], "found": 1, "totals": {"documents": 2, "chunks": 42, "bytes": 183204, "failed": 1}}
    )

    documents: list[Document]
    found: int = Field(description="How many match, of which some are listed.")
    totals: Totals


class Files(BaseModel):
    """Documents by what became of them."""

    seen: int
    indexed: int
    unchanged: int
    removed: int
    failed: int


class Failure(BaseModel):
    """A document that failed."""

    path: str
    stage: str
    reason: str


class Counts(BaseModel):
    """What a job did."""

    files: Files
    chunks: int
    pages: int
    seconds: float
    chunks_per_second: float
    peak_rss_mb: float
    interrupted: bool
    failures: list[Failure] = Field(description="The first ones.")
    quarantine: str | None = Field(description="The report of all documents that failed, if any did.")


class Job(BaseModel):
    """Work that was asked for."""

    model_config = _like(JOB)

    id: str
    kind: Kind
    state: State
    names: list[str] = Field(description="Paths to ingest, or documents to remove; the first ones.")
    names_in_all: int
    prune: bool = Field(description="Whether documents whose files have gone from the folders are removed.")
    metadata: dict[str, list[str]]
    who: str = Field(description="Who asked for it; empty where nobody has to sign in.")
    created: str
    started: str = Field(description="Empty before it begins.")
    ended: str = Field(description="Empty before it ends.")
    counts: Counts | None
    error: str = Field(description="Why a failed one failed.")


class InHand(BaseModel):
    """A document that is being read."""

    doc: str
    seconds: float
    page: int
    pages: int = Field(description="0 where it is not read page by page.")


class Progress(BaseModel):
    """How far a job is; the data of an event `progress`."""

    model_config = _like(PROGRESS)

    state: State
    files: int = Field(description="Documents done ...")
    of: int = Field(description="... of those known to be there.")
    pages: int
    chunks: int
    chunks_per_second: float
    eta: float | None = Field(description="Seconds left; null as long as nobody can tell.")
    in_hand: list[InHand]
    stage: str = Field(description="What goes on where no document is in hand.")


class Result(BaseModel):
    """What became of one document; the data of an event `result`."""

    model_config = _like(RESULT)

    doc: str
    status: Literal["indexed", "unchanged", "failed", "removed"]
    pages: int
    chunks: int
    stage: str
    reason: str


class JobWithResults(Job):
    """A job, and how far it is."""

    model_config = _like({**JOB, "progress": {**PROGRESS, "state": "done"}, "results": [RESULT]})

    progress: Progress
    results: list[Result] = Field(description="The last ones, of a job that runs or ran shortly before.")


class JobsList(BaseModel):
    """The last jobs, newest first."""

    model_config = _like({"jobs": [JOB], "waiting": 0, "running": 0})

    jobs: list[Job]
    waiting: int
    running: int


class Removed(BaseModel):
    """What a removal did so far."""

    model_config = _like(
        {
            "removed": [DOCUMENT["doc"]],
            "job": {**JOB, "kind": "remove", "names": [DOCUMENT["doc"]], "names_in_all": 1, "counts": None},
        }
    )

    removed: list[str] = Field(description="Documents that are gone, with those that were found in them.")
    job: Job


class PathOrder(BaseModel):
    """Files and folders of the server's machine to ingest."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"paths": ["/home/ana/ferry"], "metadata": {"project": "Aurora"}}]},
    )

    paths: list[str] = Field(min_length=1, max_length=1000, description="Absolute.")
    prune: bool = Field(False, description="Remove documents whose files have gone from these folders.")
    metadata: dict[str, str | list[str]] = Field({}, description="What is said about every document of them.")
