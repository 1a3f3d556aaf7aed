"""Looks at the machine and the settings and says what is missing. Knows nothing about how it is shown."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.embed import cuda
from rag.errors import CollectionMissing, FootnoteError, StoreLocked
from rag.settings import Settings

PACKAGES = ("qdrant-edge-py", "qdrant-client", "openvino", "openvino-genai", "unstructured", "gradio")
OFFICE = {"writer": "libreoffice-writer-nogui", "impress": "libreoffice-impress-nogui"}
"""A part of LibreOffice, as its file of settings is named -> the Debian package that has it."""
SECONDS = 30
"""What a helper program may take to say its version."""
LOW_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `remedy` is the command that mends it, or makes more possible where `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}


def examine(settings: Settings) -> list[Check]:
    """Every check, in a fixed order."""
    return [
        *_versions(),
        _tried("embedder weights", lambda: _embedder(settings)),
        _tried("checker", lambda: _checker(settings)),
        _tried("language model", lambda: _llm(settings)),
        _tried("store", lambda: _store(settings)),
        _disk(settings),
        Check("gpu", True, "CUDA is used" if cuda() else "none; everything runs on the CPU"),
        _tesseract(settings.ocr_languages),
        _office(),
        _pandoc(),
    ]


def _tried(name: str, look: Callable[[], str]) -> Check:
    """A check that holds unless looking raises; the remedy is the last part of the message."""
    try:
        return Check(name, True, look())
    except FootnoteError as error:
        detail, _, remedy = str(error).rpartition("; ")
        return Check(name, False, detail or str(error), remedy if detail else "")


def _versions() -> Iterator[Check]:
    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("footnote", *PACKAGES):
        try:
            yield Check(package, True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Check(package, False, "not installed", "make setup")


def _embedder(settings: Settings) -> str:
    from rag.weights import find_embedder

    weights = find_embedder(settings.embed_model)
    return f"{weights.name}, sha256 {weights.sha256}"


def _checker(settings: Settings) -> str:
    from rag.verify import open_checker

    return open_checker(settings).id


def _llm(settings: Settings) -> str:
    if settings.llm_backend == "openai" or (settings.llm_backend == "auto" and settings.llm_base_url):
        from rag.llm import open_llm

        return f"{open_llm(settings).name} at {settings.llm_base_url}"
    from rag.weights import find_llm

    weights = find_llm(settings.llm_model)
    return f"{weights.name}, sha256 {weights.sha256}"


def _store(settings: Settings) -> str:
    """Where the collection is and how many passages it holds; one that is in use by Footnote itself is fine."""
    from rag.embed import open_embedder
    from rag.store.opening import open_store

    where = f"Qdrant at {settings.qdrant_url}" if settings.qdrant_url else f"embedded Qdrant Edge in {settings.home}"
    try:
        store = open_store(settings, open_embedder(settings))
    except CollectionMissing:
        return f"{where}; collection {settings.collection!r} is empty"
    except StoreLocked as error:
        return str(error)
    count = store.count()
    store.close()
    return f"{where}; {count} passages in collection {settings.collection!r}"


def _disk(settings: Settings) -> Check:
    folder = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(folder).free / 1e9
    detail = f"{free:.1f} GB free for {settings.home}"
    remedy = f"free some space: conversions and the index need {LOW_DISK_GB:.0f} GB"
    return Check("disk", free >= LOW_DISK_GB, detail, "" if free >= LOW_DISK_GB else remedy)


def _tesseract(languages: str) -> Check:
    """Optional, as are the other helper programs: what they read is refused with the remedy where they are absent."""
    from ingest.parse.ocr import missing

    lacking = missing(languages)
    remedy = f"sudo {lacking.partition('install it: ')[2]}" if lacking else ""
    if shutil.which("tesseract") is None:
        return Check("tesseract", True, "not installed (optional; reads scanned pages and pictures)", remedy)
    listed = ", ".join(_said("tesseract", "--list-langs").splitlines()[1:])
    detail = f"{_version(_said('tesseract', '--version'))}, languages: {listed or 'none'}"
    return Check("tesseract", True, f"{detail}; {languages} is asked for" if lacking else detail, remedy)


def _office() -> Check:
    program = shutil.which("soffice") or shutil.which("libreoffice")
    lacking = OFFICE if program is None else _lacking_parts(Path(program))
    remedy = f"sudo apt-get install {' '.join(lacking.values())}" if lacking else ""
    if program is None:
        return Check("LibreOffice", True, "not installed (optional; reads .doc, .ppt and .odp)", remedy)
    without = f", without {' and '.join(lacking)}" if lacking else ""
    return Check("LibreOffice", True, _version(_said(program, "--version")) + without, remedy)


def _lacking_parts(program: Path) -> dict[str, str]:
    """Parts that are not there; none where this LibreOffice keeps its files in another way than Debian's does."""
    folder = program.resolve().parents[1] / "share" / "registry"
    if not folder.is_dir():
        return {}
    return {part: package for part, package in OFFICE.items() if not (folder / f"{part}.xcd").exists()}


def _pandoc() -> Check:
    import pypandoc

    try:
        return Check("pandoc", True, str(pypandoc.get_pandoc_version()))
    except OSError:
        detail = "not installed (optional; reads .rst, .org and .adoc)"
        return Check("pandoc", True, detail, "make setup, or sudo apt-get install pandoc")


def _said(*command: str) -> str:
    """What a program says on either stream; empty where it does not start or never ends."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _version(said: str) -> str:
    """The first thing that looks like a version."""
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "installed, but does not say its version"
