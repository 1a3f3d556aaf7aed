"""Which actors the machines of a cluster get. Pure; knows nothing about Ray or what the actors do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rag.settings import Settings


class Node(NamedTuple):
    """What a machine of the cluster offers."""

    id: str
    host: str
    cpus: int
    gpus: int


class Post(NamedTuple):
    """A place for an actor on a machine."""

    kind: str
    """`read` or `embed`."""
    node: str
    host: str
    number: int
    """Tells apart the posts of a kind on a machine."""
    cpus: float
    gpus: int
    threads: int


def posts(nodes: Sequence[Node], settings: Settings) -> list[Post]:
    """A reader a CPU, and an encoder a GPU; or an encoder a machine, where there is no GPU or no use for one.

    Without GPUs the readers and the encoder of a machine share its CPUs, half to half on paper: as on one machine,
    the system gives them to whoever has work.
    """
    on_gpu = settings.embed_backend in ("auto", "sentence-transformers") and any(node.gpus for node in nodes)
    found: list[Post] = []
    for node in nodes:
        readers = min(node.cpus, settings.parse_workers or node.cpus)
        for number in range(node.gpus if on_gpu else min(node.cpus, 1)):
            cpus = 0 if on_gpu else node.cpus // 2 or 0.5
            found.append(Post("embed", node.id, node.host, number, cpus, int(on_gpu), node.cpus))
        for number in range(readers):
            found.append(Post("read", node.id, node.host, number, 1 if on_gpu else 0.5, 0, 1))
    return found
