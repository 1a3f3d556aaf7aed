"""What became of files, one by one and in sum. Knows nothing about how it came about."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one document. `stage` and `reason` say why it failed; `reason` also what an indexed one left out.

    A document is a file, or what was found in one: an attachment, a member of an archive.
    """

    doc: str
    status: str
    """`indexed`, `unchanged`, `failed`, or `removed`."""
    pages: int = 0
    chunks: int = 0
    stage: str = ""
    reason: str = ""


@dataclass(slots=True)
class Summary:
    """Counts of one run, kept up to date while it goes on."""

    seen: int = 0
    """Documents met in this run; those that were removed are not among them."""
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    chunks: int = 0
    pages: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory that all processes of the run have held together."""
    interrupted: bool = False
    """True where it was stopped before every file was seen."""
    failures: list[FileResult] = field(default_factory=list)

    def add(self, result: FileResult) -> None:
        """Count one document."""
        self.seen += result.status != "removed"
        setattr(self, result.status, getattr(self, result.status) + 1)
        if result.status == "indexed":
            self.chunks += result.chunks
            self.pages += result.pages
        if result.status == "failed":
            self.failures.append(result)
