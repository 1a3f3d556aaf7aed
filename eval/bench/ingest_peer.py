"""LlamaIndex's own ingestion, put together as its tutorials do, to be measured beside ours.

`SimpleDirectoryReader`, `SentenceSplitter`, `HuggingFaceEmbedding` and `QdrantVectorStore` over qdrant-client's
local mode on disk, by `VectorStoreIndex.from_documents`. Knows nothing about our ingestion.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.bench.texts import passages
from ingest.parse.kind import kind_of
from rag.embed import TokenCounter
from rag.errors import BenchError
from rag.sparse import encode_document

COLLECTION = "bench"
PACKAGES = ("llama-index-core", "llama-index-embeddings-huggingface", "llama-index-vector-stores-qdrant")
WARM_UP = 16
"""Texts embedded before the clock starts."""
_HEAD = 8192
_PAGE = 1000

DIFFERS = (
    "the peer's plain install reads text alone: HTML goes in with its markup, and what is no text counts as failed",
    "the peer's sparse vectors come from Footnote's BM25, since its own sparse model has to be downloaded; its "
    "splitter counts with the embedder's tokenizer, as Footnote's does",
    "the peer puts a file's path above each passage, and cuts passages shorter by it; Footnote puts title and headings "
    "there, on top of chunk_tokens",
    "the peer reads all files into memory first and works in one process; Footnote reads them in a pool of processes "
    "with limits, keeps a catalog, embeds the same content once, and builds the search index where that pays",
    "the embedder has the same weights on both sides: Footnote runs them as its settings say (int8 on a CPU by "
    "default), the peer with sentence-transformers in fp32",
)
"""What the two sides do not have in common, one thing a sentence."""


class Peer:
    """See `eval.bench.measured.Side`."""

    def __init__(self, files: Sequence[Path], folder: Path, weights: Path, chunk_tokens: int, overlap: int) -> None:
        _keep_quiet()
        try:
            from llama_index.core.node_parser import SentenceSplitter
            from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        except ImportError:
            raise BenchError(f"the peer is not installed; run `pip install {' '.join(PACKAGES)}`") from None
        self._files = [path for path in files if _is_read(path)]
        self._count = TokenCounter(weights / "tokenizer.json")
        self._embedder = HuggingFaceEmbedding(model_name=str(weights))
        self._embedder.get_text_embedding_batch(passages(WARM_UP, self._count, chunk_tokens))
        self._splitter = SentenceSplitter(chunk_size=chunk_tokens, chunk_overlap=overlap, tokenizer=self._tokens)
        self._splitter.split_text("One sentence. Another one.")
        self._store = _store(folder)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._count.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def work(self) -> None:
        """Read, split, embed and store, with the defaults."""
        from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex

        if not self._files:
            return
        documents = SimpleDirectoryReader(input_files=self._files).load_data()
        VectorStoreIndex.from_documents(
            documents,
            storage_context=StorageContext.from_defaults(vector_store=self._store),
            embed_model=self._embedder,
            transformations=[self._splitter],
        )

    def facts(self) -> dict[str, Any]:
        """Files of which something is in the store, passages, and the tokens that were embedded."""
        from llama_index.core.schema import MetadataMode
        from llama_index.core.vector_stores.utils import metadata_dict_to_node

        files, chunks, tokens = set(), 0, 0
        for payload in _payloads(self._store.client):
            files.add(payload["file_path"])
            chunks += 1
            node = metadata_dict_to_node(payload)
            tokens += self._count(node.get_content(metadata_mode=MetadataMode.EMBED))
        return {"files": len(files), "chunks": chunks, "tokens": tokens}


def _keep_quiet() -> None:
    """Nothing is downloaded, and advice to use a server is not heeded."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")


def _is_read(path: Path) -> bool:
    """True where the peer has a reader for a file, or it is text. It would index the bytes of any other."""
    from llama_index.core import SimpleDirectoryReader

    if path.suffix.lower() in SimpleDirectoryReader.supported_suffix_fn():
        return True
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(_HEAD) and kind_of(path) is None
    except OSError:
        return False


def _store(folder: Path) -> Any:
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient, models

    return QdrantVectorStore(
        collection_name=COLLECTION,
        client=QdrantClient(path=str(folder)),
        enable_hybrid=True,
        sparse_doc_fn=_sparse,
        sparse_query_fn=_sparse,
        # What it sets by itself for its own BM25 model.
        sparse_config=models.SparseVectorParams(index=models.SparseIndexParams(), modifier=models.Modifier.IDF),
    )


def _sparse(texts: Sequence[str]) -> tuple[list[list[int]], list[list[float]]]:
    vectors = [encode_document(text) for text in texts]
    return [list(vector.indices) for vector in vectors], [list(vector.values) for vector in vectors]


def _payloads(client: Any) -> Iterator[dict[str, Any]]:
    if not client.collection_exists(COLLECTION):
        return
    offset: Any = None
    while True:
        points, offset = client.scroll(COLLECTION, limit=_PAGE, offset=offset)
        yield from (point.payload for point in points)
        if offset is None:
            return
