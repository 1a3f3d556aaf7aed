"""Ingestion on a Ray cluster: the same run as on one machine, with a pool of machines in the place of the sandbox.

The driver decides what is to be read and writes what comes of it, in the same order as ever; reading and embedding
happen in actors (`ingest.node`), which `ingest.crew` keeps busy. The only module that knows Ray.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from ingest.catalog import Catalog
from ingest.crew import Crew
from ingest.node import About, Encoder, Factory, Reader
from ingest.pipeline import Ingestion
from ingest.posts import Node, Post
from ingest.stages import Recipe
from rag.embed import Embedder, open_embedder
from rag.errors import FootnoteError, IngestError
from rag.settings import Settings
from rag.store.protocol import Store

log = logging.getLogger("footnote.cluster")

FAREWELL = 5.0
"""Seconds that actors have to clean up."""
KNOCK = 10.0
"""Seconds to wait for a cluster's head."""
OBJECTS = 256 << 20
"""Bytes of a local cluster's object store: little is under way at a time."""
_CLIENT = "ray://"
_INSTALL = "--cluster needs Ray, which is not installed: pip install 'footnote[cluster]'"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Despite its name, what makes Ray bind to 127.0.0.1 on every system (ray/_private/services.py)."""


class ClusterIngestion(Ingestion):
    """`Ingestion` whose documents are read and embedded on a Ray cluster. An object is good for one run."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        store: Store,
        catalog: Catalog,
        address: str,
        ledger: str = "",
        factory: Factory = open_embedder,
    ) -> None:
        """The cluster is called on when the first document has to be read.

        Args:
            settings: as the nodes get them, keys left out.
            embedder: tells the nodes' embedders what they must be; embeds nothing itself.
            store: written by this process alone.
            catalog: likewise.
            address: `local` for one on this machine that ends with the run, `auto` for one that runs on this
                machine, `ray://HOST:PORT` for one elsewhere.
            ledger: see `Ingestion`.
            factory: opens the embedder on a node.

        Raises:
            IngestError: Ray is not installed.
            SettingsError: a chunk would not fit the embedder's window.
        """
        if importlib.util.find_spec("ray") is None:
            raise IngestError(_INSTALL)
        about = About.of(embedder, Recipe.of(settings, embedder))
        keyless = settings.model_copy(update={"qdrant_api_key": SecretStr(""), "llm_api_key": SecretStr("")})
        cluster = RayCluster(address, settings.parse_workers or settings.cores, factory)
        crew = Crew(keyless, about, cluster, settings.home / "spool" / uuid4().hex)
        super().__init__(settings, embedder, store, catalog, ledger, crew)


class _Reader(Reader):
    """In a worker of Ray, whose main module a new sandbox must not run: it loads Ray, which takes a second."""

    def __init__(self, settings: Settings, factory: Factory) -> None:
        super().__init__(settings, factory)
        sys.modules["__main__"].__file__ = None


_ACTORS: dict[str, type] = {"read": _Reader, "embed": Encoder}


class RayCluster:
    """`ingest.crew.Cluster` on Ray. Connects when it is used first."""

    def __init__(self, address: str, cpus: int, factory: Factory) -> None:
        """`cpus` are those of a cluster that is started here."""
        self._address, self._cpus, self._factory = address, cpus, factory
        self._ray: Any = None
        self._is_ours = False

    @contextmanager
    def explained(self) -> Iterator[None]:
        """See `Cluster.explained`."""
        if self._ray is None:
            self._connect()
        try:
            yield
        except FootnoteError:
            raise
        except (ConnectionError, TimeoutError, self._ray.exceptions.RayError) as error:
            raise self._unusable(error) from error

    def _connect(self) -> None:
        local = self._address == "local"
        os.environ.update(_QUIET | (_LOOPBACK if local else {}))
        import ray
        import ray.exceptions

        logging.getLogger("ray").setLevel(logging.ERROR)  # what matters to a user comes as an exception
        if not ray.is_initialized():
            try:
                self._knock()
                self._initialise(ray)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise self._unusable(error) from error
            self._is_ours = True
        self._ray = ray

    def _initialise(self, ray: Any) -> None:
        """Connect; once more where the process that the cluster started for us died while it started."""
        try:
            ray.init(self._address, **self._options())
        except ConnectionAbortedError as error:
            log.warning("the Ray cluster broke the connection off (%s); connecting again", _line(error))
            ray.init(self._address, **self._options())

    def _knock(self) -> None:
        """Raise OSError where nobody listens at the address: Ray itself would wait for minutes."""
        if self._address == "local":
            return
        where = self._address
        if not where.startswith(_CLIENT):
            from ray._private.services import canonicalize_bootstrap_address_or_die

            where = canonicalize_bootstrap_address_or_die(where)
        host, _, port = where.removeprefix(_CLIENT).rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()

    def _unusable(self, error: BaseException) -> IngestError:
        return IngestError(
            f"the Ray cluster {self._address!r} cannot be used: {_line(error)}; "
            "look at it with `ray status`, start one with `ray start --head`, or name another"
        )

    def _options(self) -> dict[str, Any]:
        """What `ray.init` takes for a cluster elsewhere, one that this machine is part of, and one of our own."""
        if self._address.startswith(_CLIENT):
            return {}
        here = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address != "local":
            return here
        own = {"num_cpus": self._cpus, "include_dashboard": False, "object_store_memory": OBJECTS}
        return here | own | {"_node_ip_address": "127.0.0.1"}

    def nodes(self) -> list[Node]:
        """See `Cluster.nodes`."""
        return [
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                int(node["Resources"].get("CPU", 0)),
                int(node["Resources"].get("GPU", 0)),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def start(self, post: Post, settings: Settings) -> Any:
        """See `Cluster.start`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": post.cpus,
            "num_gpus": post.gpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(post.node, soft=False),
            "max_restarts": 0,
        }
        return self._ray.remote(_ACTORS[post.kind]).options(**options).remote(settings, self._factory)

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """See `Cluster.call`."""
        return getattr(actor, method).remote(*arguments)

    def done(self, calls: Collection[Any], timeout: float) -> list[Any]:
        """See `Cluster.done`."""
        if not calls:
            return []
        first, _ = self._ray.wait(list(calls), timeout=timeout)
        return list(self._ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]) if first else []

    def answer(self, call: Any, host: str) -> tuple[Any, str]:
        """See `Cluster.answer`."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(call), ""
        except errors.RayTaskError as error:
            raise IngestError(f"node {host}: {_line(error.cause)}") from error
        except errors.RayError as error:
            return None, _line(error)

    def kill(self, actor: Any) -> None:
        """See `Cluster.kill`."""
        self._ray.kill(actor)

    def close(self, readers: Sequence[Any], actors: Sequence[Any]) -> None:
        """See `Cluster.close`."""
        if self._ray is None:
            return
        try:
            farewells = [reader.close.remote() for reader in readers]
            if farewells:
                self._ray.wait(farewells, num_returns=len(farewells), timeout=FAREWELL)
            for actor in actors:
                self._ray.kill(actor)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            log.warning("the Ray cluster went away before its actors were ended: %s", _line(error))
        finally:
            if self._is_ours:
                self._ray.shutdown()


def _line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
