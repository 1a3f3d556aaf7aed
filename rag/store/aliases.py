"""Which collection on a Qdrant server is the index: an alias says so, and is moved when another takes its place.

    footnote-NAME             alias: the index called NAME; made last, so that behind it is never half a collection
    footnote-NAME.1a2b3c4d    a collection: the one behind the alias, or one that is built to take its place

What a collection is, is written in its metadata: `identity`, and where it was built beside another, its label and
the name of the collection that it `replaces`. What is neither is what a killed process left. Knows nothing about
points.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rag.errors import StoreMismatch
from rag.store.points import INDEXED, identity
from rag.store.protocol import BM25, DENSE

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

PREFIX = "footnote-"
RECORD = "footnote"
"""Key of our record in a collection's metadata."""


class Collections:
    """The collections of one index. Raises what `qdrant-client` raises."""

    def __init__(self, client: QdrantClient, collection: str) -> None:
        """Look after the index that the user knows as `collection`."""
        self._client = client
        self.name = PREFIX + collection

    def names(self) -> list[str]:
        """Of all indexes on the server, sorted, as the user knows them."""
        aliases = (each.alias_name for each in self._client.get_aliases().aliases)
        return sorted(alias.removeprefix(PREFIX) for alias in aliases if alias.startswith(PREFIX))

    def live(self) -> str | None:
        """The collection that is searched; None where there is none. One that is no alias is another program's."""
        for each in self._client.get_aliases().aliases:
            if each.alias_name == self.name:
                return each.collection_name
        return self.name if self.name in self._all() else None

    def record(self, collection: str) -> dict[str, Any] | None:
        """What is written of a collection; None where it is not ours."""
        metadata = self._client.get_collection(collection).config.metadata or {}
        found = metadata.get(RECORD)
        return dict(found) if isinstance(found, dict) else None

    def create(self, dim: int, embedder_id: str) -> str:
        """Make an empty collection and put the alias on it, unless another process did so meanwhile."""
        made = self._create(dim, identity(dim, embedder_id))
        found = self.live()
        if found is None:
            self._point_at(made)
        return found or made

    def beside(self) -> str | None:
        """The collection that is being built to take the live one's place."""
        live = self.live() or ""
        return next((each for each in self._others() if (self.record(each) or {}).get("replaces") == live), None)

    def beside_label(self) -> str:
        """Its label; empty where there is none."""
        found = self.beside()
        return str((self.record(found) or {}).get("label", "")) if found else ""

    def build_beside(self, dim: int, embedder_id: str, label: str) -> str:
        """The collection that is being built with this embedder and label, made where missing; others are removed.

        Raises:
            StoreMismatch: a collection of another program has the name that the alias needs.
        """
        live = self.live() or ""
        if live == self.name:
            raise self._not_ours(
                f"can have no other take its place: remove {self.name} from the server, or choose another --collection"
            )
        record = identity(dim, embedder_id) | {"label": label, "replaces": live}
        self._remove(keep=self._named(record))
        return self._create(dim, record)

    def put_in_place(self, collection: str) -> None:
        """Move the alias to a collection, then remove all others of the index."""
        self._point_at(collection)
        self._remove(keep=collection)

    def discard_beside(self) -> None:
        """Remove what is built beside the live collection, and what was left of earlier ones."""
        self._remove(keep="")

    def discard(self) -> None:
        """Remove the index, and what is built beside it. Nothing happens where there is none.

        Raises:
            StoreMismatch: the collection is another program's.
        """
        live = self.live()
        if live == self.name:
            raise self._not_ours(f"is not removed: remove {self.name} from the server")
        if live is not None:
            self._client.update_collection_aliases([self._unpointed()])
        self._remove(keep="")

    def _not_ours(self, so: str) -> StoreMismatch:
        return StoreMismatch(f"{self.name} is a collection of another program or of an old version, so it {so}")

    def _unpointed(self) -> models.DeleteAliasOperation:
        from qdrant_client import models

        return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.name))

    def _create(self, dim: int, record: Mapping[str, Any]) -> str:
        from qdrant_client import models
        from qdrant_client.http.exceptions import UnexpectedResponse

        collection = self._named(record)
        try:
            if collection not in self._all():
                self._client.create_collection(
                    collection,
                    vectors_config={DENSE: models.VectorParams(size=dim, distance=models.Distance.COSINE)},
                    sparse_vectors_config={BM25: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    metadata={RECORD: dict(record)},
                )
        except UnexpectedResponse as error:
            if error.status_code != 409:  # another process made it in the meantime
                raise
        for field, kind in INDEXED.items():
            self._client.create_payload_index(collection, field, models.PayloadSchemaType(kind), wait=True)
        return collection

    def _named(self, record: Mapping[str, Any]) -> str:
        """A name made of what is written, so that two processes that make the same make one."""
        written = json.dumps(record, sort_keys=True).encode()
        return f"{self.name}.{hashlib.sha256(written).hexdigest()[:8]}"

    def _point_at(self, collection: str) -> None:
        from qdrant_client import models

        made = models.CreateAlias(collection_name=collection, alias_name=self.name)
        steps: list[models.AliasOperations] = [models.CreateAliasOperation(create_alias=made)]
        if self.live() is not None:
            steps.insert(0, self._unpointed())
        self._client.update_collection_aliases(steps)

    def _remove(self, keep: str) -> None:
        for each in self._others():
            if each != keep:
                self._client.delete_collection(each)

    def _others(self) -> list[str]:
        """The index's collections, without the live one."""
        live = self.live()
        ours = re.compile(re.escape(self.name) + r"\.[0-9a-f]{8}")
        return sorted(each for each in self._all() if each != live and ours.fullmatch(each))

    def _all(self) -> set[str]:
        return {each.name for each in self._client.get_collections().collections}
