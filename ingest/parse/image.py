"""Pictures (PNG, JPEG, TIFF, BMP, GIF, WebP, HEIC): the text that is recognised in them; a TIFF's pictures are pages.

Knows nothing about how text is recognised.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ingest.parse import ocr
from ingest.parse.document import Context, ParsedDocument, Piece, assemble
from rag.errors import ParseError

_PAGED = {"TIFF", "HEIF"}
"""Formats whose pictures are pages; those of the others are an animation, or smaller copies of the first."""
_ANIMATED = {"GIF", "PNG", "WEBP"}
_LARGEST = 180_000_000
"""Pixels of a picture that is opened at all: A4 at 1200 dpi has 139 million, and each takes up to 4 bytes."""
_FEWEST = 20
"""Pixels; less in one direction has no room for text."""


def parse_image(path: Path, context: Context) -> ParsedDocument:
    """Recognise the text of a picture, or of each page of a scan.

    Raises:
        ParseError: if there is no text in it, it is too large, or tesseract is missing or lacks the language.
    """
    reason = ocr.missing(context.languages)
    if reason:
        raise ParseError(reason)
    pieces: list[Piece] = []
    notes: list[str] = []
    with _opened(path) as image:
        count = _pages(image)
        if count < getattr(image, "n_frames", 1) and image.format in _ANIMATED:
            notes.append("it is an animation; only its first picture was read")
        for number in range(1, count + 1):
            read, note = _page(image, number, context)
            where = f"page {number}: " if count > 1 else ""
            notes += [f"{where}{note}"] if note else []
            pieces += [Piece(text, page=number if count > 1 else None) for text in read.text.split("\n\n")]
            context.progress(number, count)
    if not any(piece.text for piece in pieces):
        raise ParseError(_nothing(context.languages))
    return assemble(path.stem, pieces, count, tuple(notes))


def _nothing(languages: str) -> str:
    hint = f"if there is some, its language may not be among ocr_languages ({languages})"
    return f"no text was recognised in this picture; {hint}"


def _opened(path: Path) -> Any:
    """The picture, not decoded yet."""
    import pi_heif
    from PIL import Image

    pi_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except Image.DecompressionBombError:
        raise ParseError(_too_large()) from None


def _too_large() -> str:
    return f"the picture has more than {_LARGEST // 1_000_000} million pixels; save it smaller"


def _pages(image: Any) -> int:
    return int(getattr(image, "n_frames", 1)) if image.format in _PAGED else 1


def _page(image: Any, number: int, context: Context) -> tuple[ocr.Read, str]:
    """What one picture of the file says, and a note on what could not be read."""
    try:
        if number > 1:
            image.seek(number - 1)
        grey = _grey(image)
        if min(grey.size) < _FEWEST:
            return ocr.Read(), ""
        read = ocr.recognise(grey, context.languages)
    except (ParseError, OSError, SyntaxError, ValueError) as error:
        if _pages(image) == 1:
            raise
        return ocr.Read(), f"not read: {error}"
    gaps = f"some text could not be recognised; its language may not be among ocr_languages ({context.languages})"
    return read, gaps if read.has_gaps else ""


def _grey(image: Any) -> Any:
    """As it is meant to be looked at: upright, on white paper, not larger than tesseract can take."""
    from PIL import Image, ImageOps

    if image.width * image.height > _LARGEST:
        raise ParseError(_too_large())
    factor = ocr.fit(image.width, image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image.draft("L", size)
    upright = ImageOps.exif_transpose(_on_white(image).convert("L"))
    if factor == 1:
        return upright
    return upright.resize(size if upright.width >= upright.height else size[::-1], Image.Resampling.LANCZOS)


def _on_white(image: Any) -> Any:
    """Without transparency, which else turns black, and 16 bits a pixel, which else turn white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        low, high = image.getextrema()
        scale = 255 / (high - low) if high > low else 1.0
        return image.point(lambda value: value * scale - low * scale).convert("L")
    if "transparency" not in image.info and not image.mode.endswith(("A", "a")):
        return image
    clear = image.convert("LA") if image.mode in ("RGBA", "LA") else image.convert("RGBA").convert("LA")
    paper = Image.new("L", clear.size, 255)
    paper.paste(clear.getchannel("L"), mask=clear.getchannel("A"))
    return paper
