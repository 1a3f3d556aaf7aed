"""What one server serves, in one record. Knows nothing about routes."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.settings import Settings
from ui.desk import Desk
from ui.server.access import IDENTITY
from ui.server.answers import Answers
from ui.server.conversations import LOCAL, Conversations
from ui.server.evaluations import Evaluations, Floor
from ui.server.feedback import Feedback
from ui.server.jobs import Jobs
from ui.server.metrics import Metrics
from ui.server.turns import Turns
from ui.server.uploads import Uploads
from ui.workplace import Here


@dataclass(frozen=True)
class Served:
    """One collection, and what is shared by everybody who asks."""

    rag: Rag
    catalog: Catalog
    desk: Desk
    metrics: Metrics
    answers: Answers
    conversations: Conversations
    feedback: Feedback
    uploads: Uploads
    jobs: Jobs
    evaluations: Evaluations

    @classmethod
    def of(
        cls,
        rag: Rag,
        catalog: Catalog,
        desk: Desk | None = None,
        turns: Turns | None = None,
        floor: Floor | None = None,
    ) -> Served:
        """With counters of its own; `turns` and `floor` are shared by all whose answers one language model writes."""
        metrics, settings = Metrics(), rag.settings
        desk = desk or Desk(rag, catalog)
        uploads = Uploads(settings.home, settings.collection, settings.max_upload_mb, settings.max_upload_files)
        answers = Answers(rag, catalog, metrics, turns)
        found = cls(
            rag,
            catalog,
            desk,
            metrics,
            answers,
            Conversations.open(settings),
            Feedback(settings),
            uploads,
            Jobs(settings, catalog, Here(rag, catalog), desk.writing, uploads.discard),
            Evaluations(rag, answers.turns, floor),
        )
        metrics.watch("passages", "Passages in the index.", lambda: float(rag.store.count()))
        metrics.watch("documents", "Documents in the catalog.", lambda: float(len(catalog.rows(found.collection))))
        return found

    def stop(self) -> None:
        """Stop what is going on at the next border between documents; whoever watches or handed it in is told."""
        self.evaluations.close()
        self.jobs.close()
        self.desk.close()

    def close(self) -> None:
        """Let go of what was opened here; a job that is going on stays in the list, and goes on at the next start."""
        self.evaluations.close()
        self.jobs.close()
        self.conversations.close()

    @property
    def settings(self) -> Settings:
        """Those of the collection."""
        return self.rag.settings

    @property
    def collection(self) -> str:
        """Its name."""
        return self.rag.settings.collection


def owner_of(connection: HTTPConnection) -> str:
    """Whose conversations they are: those of the person or key that signed in, or of the machine's user."""
    return getattr(connection.scope.get(IDENTITY), "name", "") or LOCAL


def client_of(connection: HTTPConnection) -> str:
    """Whose turn a question takes: the person or key that signed in, at an address."""
    host = connection.client.host if connection.client else ""
    return f"{owner_of(connection)}@{host}"
