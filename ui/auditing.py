"""The audit, with its findings and repairs on stderr. Knows nothing about flags."""

from __future__ import annotations

from typing import Any

from ingest import quarantine
from ingest.audit import Audit, Report
from ingest.catalog import Catalog
from rag.answer import Rag
from rag.settings import Settings
from ui import records
from ui.ingesting import Outcome, report, say, stderr

SHOWN = 20
"""Findings that are printed; JSON has all of them."""


def audited(settings: Settings, catalog: Catalog, sample: int, repair: bool) -> Outcome:
    """Audit a collection; where asked for, mend what was found and audit it again.

    Raises:
        StoreError, IngestError: the index or the catalog cannot be read.
    """
    console = stderr()
    with Rag.open(settings) as rag:
        audit = Audit(settings, rag.embedder, rag.store, catalog)
        found = audit.run(sample)
        for fault in found.faults[:SHOWN]:
            say(console, f"{fault.kind:<8} {fault.doc}: {fault.detail}")
        if len(found.faults) > SHOWN:
            say(console, f"and {len(found.faults) - SHOWN:,} more; --json lists them all")
        repaired = 0
        if repair and found.faults:
            for result in audit.repair(found):
                repaired += result.status == "indexed"
                report(console, result)
            found = audit.run(sample)
            quarantine.write(settings, catalog)
    record = records.audit(found, repaired)
    return Outcome(record, _text(found, repaired))


def _text(found: Report, repaired: int) -> str:
    counts: dict[str, Any] = {
        "missing": found.missing,
        "orphaned": found.orphans,
        "with a bad vector": found.bad_vectors,
        "differing from their files": found.bad_texts,
        "with other metadata": found.bad_metadata,
    }
    wrong = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    verdict = f"passages {wrong}; mend it with `footnote audit --repair`" if wrong else "everything holds"
    read = records.counted(found.sampled - found.changed, "document")
    lines = [
        f"{records.counted(found.documents, 'document')}, {records.counted(found.chunks, 'passage')} in the catalog, "
        f"{found.points:,} in the index; {read} read anew: {verdict}"
    ]
    if repaired:
        lines.append(f"{records.counted(repaired, 'document')} indexed anew")
    if found.changed:
        changed = records.counted(found.changed, "document")
        lines.append(f"{changed} of the sample changed or went since; run `footnote ingest` to bring them up to date")
    return "\n".join(lines)
