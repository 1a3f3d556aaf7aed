"""PDF pages a second: our parser against the pdfminer pass that `unstructured`'s strategy "fast" makes.

The strategy itself cannot be imported without unstructured-inference, which brings torchvision and a second stack of
models. It makes this pass, with these classes and parameters, and then more: so it cannot be faster. Each side has a
process of its own. Knows nothing about chunks or the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.bench.measured import Measured, measure
from ingest.parse.document import Context
from ingest.parse.table import parse
from rag.errors import BenchError, ParseError

PACKAGES = ("pypdfium2", "pdfminer.six", "unstructured")
DIFFERS = (
    "PDF pages are read by Footnote whole, and by the peer with the pdfminer pass of unstructured's fast strategy "
    "alone, which favours the peer; files that need a password or have a page without a text layer are left out",
)


def run(pdfs: Sequence[Path], progress: Callable[[str], None]) -> dict[str, Any]:
    """Pages a second of both over the files with a text layer; `ratio` is None where there are none."""
    with TemporaryDirectory(prefix="pages-") as folder:
        chosen = measure("PDF files", Chosen, pdfs, tell=progress).facts["files"] if pdfs else []
        figures: dict[str, Any] = {"files": len(chosen), "left_out": len(pdfs) - len(chosen)}
        if not chosen:
            return {**figures, "ratio": None}
        ours = _figures(measure("Footnote, PDF pages", OurPages, chosen, Path(folder), tell=progress))
        peer = _figures(measure("pdfminer, PDF pages", PeerPages, chosen, tell=progress))
    ratio = ours["pages_per_second"] / peer["pages_per_second"] if peer["pages"] else None
    return {**figures, "ours": ours, "peer": peer, "ratio": ratio and round(ratio, 1)}


def _figures(found: Measured) -> dict[str, Any]:
    seconds, facts = found.timing.seconds, found.facts
    return {**facts, "seconds": round(seconds, 2), "pages_per_second": round(facts["pages"] / seconds, 2)}


class Chosen:
    """Finds the files of which every page has a text layer. See `eval.bench.measured.Side`."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files, self._found = files, list[Path]()

    def work(self) -> None:
        """Look at every page."""
        self._found = [path for path in self._files if _has_text(path)]

    def facts(self) -> dict[str, Any]:
        """The files."""
        return {"files": self._found}


def _has_text(path: Path) -> bool:
    import pypdfium2

    with suppress(pypdfium2.PdfiumError, OSError), pypdfium2.PdfDocument(path) as document:
        return all(page.get_textpage().count_chars() > 0 for page in document)
    return False


class OurPages:
    """See `eval.bench.measured.Side`."""

    def __init__(self, files: Sequence[Path], spool: Path) -> None:
        self._files, self._context = files, Context(spool)
        self._pages = self._failed = 0
        with suppress(ParseError):
            parse(files[0], self._context)  # loads PDFium

    def work(self) -> None:
        """Read all files."""
        for path in self._files:
            try:
                self._pages += parse(path, self._context).pages
            except ParseError:
                self._failed += 1

    def facts(self) -> dict[str, Any]:
        """Pages, and files that could not be read."""
        return {"pages": self._pages, "failed": self._failed}


class PeerPages:
    """See `eval.bench.measured.Side`."""

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            from unstructured.partition.pdf_image.pdfminer_utils import init_pdfminer
        except ImportError:
            raise BenchError("the peer is not installed; run `pip install pdfminer.six`") from None
        from unstructured.patches.pdfminer import patch_psparser

        patch_psparser()  # as the module of the strategy does where it is imported
        self._files, self._init = files, init_pdfminer
        self._pages = self._failed = 0

    def work(self) -> None:
        """Read all files."""
        for path in self._files:
            try:
                self._pages += self._read(path)
            except Exception:  # noqa: BLE001 - pdfminer raises anything; counted, and shown in the result
                self._failed += 1

    def _read(self, path: Path) -> int:
        """The text of every page; returns how many."""
        from pdfminer.pdfpage import PDFPage
        from unstructured.partition.pdf_image.pdfminer_utils import get_text_with_deduplication
        from unstructured.partition.utils.config import env_config

        device, interpreter = self._init()
        threshold, pages = env_config.PDF_CHAR_DUPLICATE_THRESHOLD, 0
        with path.open("rb") as file:
            for page in PDFPage.get_pages(file, password=""):
                interpreter.process_page(page)
                for item in device.get_result():
                    get_text_with_deduplication(item, threshold)
                pages += 1
        return pages

    def facts(self) -> dict[str, Any]:
        """Pages, and files that could not be read."""
        return {"pages": self._pages, "failed": self._failed}
