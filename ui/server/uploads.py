"""Files that people send -> files in a folder of the collection, under harmless names. Streams; knows nothing of jobs.

An upload is all or nothing: files arrive in a folder of their own and are renamed when the last one is complete.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest.discover import absolute
from ingest.spool import leased
from rag.errors import IngestError
from rag.filter import Pairs
from rag.store.lock import sync

MB = 1 << 20
FILES, METADATA = "files", "metadata"
"""Names of the form's fields: a file, and `key=value` that is said about all of them."""
LONGEST = 120
"""Bytes of one folder's or file's name; file systems take 255, and what is unpacked from it needs some."""
LONGEST_SUFFIX = 20
DEEPEST = 8
"""Folders and file in a name."""
MOST_FIELDS, LONGEST_FIELD = 100, 8192
"""Fields that are no files, and bytes of each."""
SPARE = 256 * MB
"""Bytes of the disk that uploads leave free, for the index."""
DRAINED = 64 * MB
"""Bytes of a refused upload that are still taken and thrown away: who is still sending does not see an answer."""
_ENDS = re.compile(r"^[\s.]+|[\s.]+$")
_RESERVED = re.compile(r'[<>:"|?*]')
_DRIVE = re.compile(r"^\s*[A-Za-z]:(?=/|$)")
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_LEFT_OUT = {"Cc", "Cs", "Zl", "Zp"}
"""Control characters, halves of characters, and separators of lines and paragraphs."""
_TURNING = {*map(chr, (0x061C, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))}
"""Turn the direction of writing, so that a name looks like another one; and the mark of the byte order."""


class UploadRefused(IngestError):
    """An upload that cannot be used as it is."""

    status = 422


class UploadTooLarge(UploadRefused):
    """An upload with more, or larger, files than the settings allow."""

    status = 413


class DiskFull(UploadRefused):
    """An upload for which the disk has no room."""

    status = 507


class Upload(NamedTuple):
    """What was sent."""

    paths: tuple[Path, ...]
    """Where the files are now, in the order in which they came."""
    metadata: Pairs
    """What is said about them."""


def harmless(name: str) -> PurePosixPath:
    """A relative path for a name that somebody sent: of NFC, without what means something to a file system or a screen.

    A harmless name stays as it is. A leading drive goes; so do parts such as `..` of which nothing is left.

    Raises:
        UploadRefused: nothing is left of it, or it is too deep.
    """
    slashed = _DRIVE.sub("", _visible(name).replace("\\", "/"))
    parts = [part for part in map(_component, slashed.split("/")) if part]
    if not parts:
        raise UploadRefused(f"{name[:80]!r} cannot be the name of a file; give the file a name with letters or digits")
    if len(parts) > DEEPEST:
        raise UploadRefused(f"{'/'.join(parts)[:200]} lies more than {DEEPEST - 1} folders deep; upload a folder below")
    return PurePosixPath(*parts)


def _visible(text: str) -> str:
    return "".join(each for each in text if unicodedata.category(each) not in _LEFT_OUT and each not in _TURNING)


def _component(text: str) -> str:
    name = _cut(_ENDS.sub("", _RESERVED.sub("_", unicodedata.normalize("NFC", text))))
    return _cut(f"_{name}") if _DEVICE.fullmatch(name) else name


def _cut(name: str) -> str:
    """Not longer than a name may be; a suffix stays."""
    if len(name.encode()) <= LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > LONGEST_SUFFIX:
        stem, dot, suffix = name, "", ""
    room = LONGEST - len((dot + suffix).encode())
    return _ENDS.sub("", stem.encode()[:room].decode(errors="ignore")) + dot + suffix


class Uploads:
    """The uploads of one collection: `uploads/<collection>` in the home directory."""

    def __init__(
        self,
        home: Path,
        collection: str,
        max_mb: int = 512,
        max_files: int = 500,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """`max_mb` of one file, `max_files` of one upload; `free` tells how many bytes of a disk are."""
        self._all, self.root = home / "uploads", home / "uploads" / collection
        self._max_mb, self._max_files, self._free = max_mb, max_files, free
        self._lock = Lock()

    async def store(self, body: AsyncIterator[bytes], content_type: str, length: int | None = None) -> Upload:
        """Take in a multipart form; files replace those of the same name.

        Args:
            body: the form, as it comes. Where reading it fails, nothing stays.
            content_type: the request's header, with the boundary.
            length: of the body in bytes, where it was told.

        Raises:
            UploadTooLarge: a file is too large, or there are too many.
            DiskFull: there is no room.
            UploadRefused: it is no form, holds no file, or a name that cannot be used.
        """
        try:
            with self._explained(), self._arriving() as folder:
                self._check_room(folder, length or 0)
                with closing(_Form(folder, content_type, self._max_mb * MB, self._max_files)) as form:
                    async for data in body:
                        self._check_room(folder, len(data))
                        await asyncio.to_thread(form.take, data)
                    files, metadata = form.finished()
                    return Upload(await asyncio.to_thread(self._placed, files), metadata)
        except UploadRefused:
            await _drain(body)
            raise

    def name_of(self, doc: str) -> str | None:
        """The name under which a document was uploaded; None where it was not."""
        path = absolute(Path(doc))
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) and path != self.root else None

    def discard(self, file: Path, asked: str) -> None:
        """Delete an uploaded file, and the folders that are empty without it; any other file stays.

        Args:
            file: the file of a document that was removed.
            asked: when the removal was asked for, ISO 8601; an upload that came after that stays.
        """
        path = absolute(file)
        with self._lock, suppress(FileNotFoundError):
            if self.name_of(str(path)) is None or not self._is_within(path) or path.is_dir():
                return
            if path.lstat().st_mtime > datetime.fromisoformat(asked).timestamp():
                return
            path.unlink()
            with suppress(OSError):  # a folder that holds something stays
                for folder in path.parents[: len(path.relative_to(self.root).parts) - 1]:
                    folder.rmdir()

    def clear(self) -> None:
        """Delete all files that were uploaded. Raises IngestError: one cannot be."""
        with self._explained(), suppress(FileNotFoundError):
            shutil.rmtree(self.root)

    @contextmanager
    def _arriving(self) -> Iterator[Path]:
        """A folder for files that are on their way; gone in the end, however that comes."""
        self._all.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = self._all / ".arriving" / uuid4().hex
        with leased(folder):
            folder.mkdir()
            yield folder

    def _placed(self, files: Sequence[tuple[PurePosixPath, Path]]) -> tuple[Path, ...]:
        """Give files their names, once all of them can have theirs."""
        targets = [self.root / name for name, _ in files]
        with self._lock:
            for target in targets:
                self._check_way(target)
            for (_, file), target in zip(files, targets, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.utime(file, ns=(time.time_ns(),) * 2)  # by which `discard` knows what came later
                file.replace(target)
            for folder in {target.parent for target in targets}:
                sync(folder)
        return tuple(targets)

    def _check_way(self, target: Path) -> None:
        above = next(folder for folder in target.parents if folder.exists() or folder == self._all)
        if target.is_dir() or not above.is_dir() or not self._is_within(target):
            name = target.relative_to(self.root).as_posix()
            raise UploadRefused(f"{name} is a folder there, or lies in what is a file there; give one another name")

    def _is_within(self, path: Path) -> bool:
        """False where a link inside the folder leads out of it."""
        return path.parent.resolve().is_relative_to(self.root.resolve())

    def _check_room(self, folder: Path, coming: int) -> None:
        left = self._free(folder) - SPARE - coming
        if left < 0:
            raise DiskFull(
                f"the disk has {max(0, left + coming) // MB:,} MB to spare for uploads, this one needs more; "
                "remove documents or free some space, and upload again"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("the disk is full; free some space, and upload again") from error
            raise IngestError(
                f"the uploads in {self.root} cannot be changed: {error.strerror or error}; check the folder's rights"
            ) from error


class _Form:
    """A multipart form as it comes: files go to a folder, fields are kept."""

    def __init__(self, folder: Path, content_type: str, max_bytes: int, max_files: int) -> None:
        self._folder, self._max_bytes, self._max_files = folder, max_bytes, max_files
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise UploadRefused(f"multipart/form-data with a boundary is expected, not {content_type[:80]!r}")
        with _understood():
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._keep_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._file: BinaryIO | None = None
        self._field, self._text, self._size, self._whole = "", bytearray(), 0, False
        self._files: dict[PurePosixPath, Path] = {}
        self._fields: list[tuple[str, str]] = []

    def take(self, data: bytes) -> None:
        """The next piece of the body."""
        with _understood():
            self._parser.write(data)

    def finished(self) -> tuple[list[tuple[PurePosixPath, Path]], Pairs]:
        """The files with their names, and what is said about them. Raises UploadRefused where it is not whole."""
        if not self._whole:
            raise UploadRefused("the upload broke off before its end; upload again")
        if not self._files:
            raise UploadRefused(f"the upload holds no file; send each in a field `{FILES}`")
        names = set(self._files)
        if both := sorted(str(above) for name in names for above in name.parents if above in names):
            raise UploadRefused(f"{both[0]} is a file and a folder of this upload; give one another name")
        return list(self._files.items()), tuple(_pair(field, text) for field, text in self._fields)

    def close(self) -> None:
        """Let go of the file that was being written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._disposition, self._field, self._text, self._size = b"", "", bytearray(), 0

    def _keep_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _open(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode(errors="replace")
        if b"filename" not in options:
            if len(self._fields) == MOST_FIELDS:
                raise UploadTooLarge(f"the upload has more than {MOST_FIELDS} fields that are no files; leave some out")
            return
        if self._field != FILES:
            raise UploadRefused(f"a file came in a field {self._field[:80]!r}; send each in a field `{FILES}`")
        if len(self._files) == self._max_files:
            raise UploadTooLarge(
                f"the upload has more than {self._max_files} files, the most at once; send the others in a second "
                "one, or raise the setting max_upload_files"
            )
        self._create(harmless(options[b"filename"].decode(errors="replace")))

    def _create(self, name: PurePosixPath) -> None:
        if name in self._files:
            raise UploadRefused(f"two files of this upload are named {name}; put them into folders, or rename one")
        self._files[name] = path = self._folder / str(len(self._files))
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _take(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is None:
            if self._size > LONGEST_FIELD:
                raise UploadTooLarge(f"the field {self._field[:80]!r} has more than {LONGEST_FIELD} bytes; shorten it")
            self._text += data[start:end]
            return
        if self._size > self._max_bytes:
            raise UploadTooLarge(
                f"{list(self._files)[-1]} has more than {self._max_bytes // MB:,} MB, the most for one file; "
                "raise the setting max_upload_mb, or use `footnote ingest` on the server's machine"
            )
        self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._file is None:
            self._fields.append((self._field, self._text.decode(errors="replace")))
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()

    def _finish(self) -> None:
        self._whole = True


def _pair(field: str, text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if field != METADATA:
        raise UploadRefused(f"the field {field[:80]!r} is not known; there are `{FILES}` and `{METADATA}`")
    if not (key.strip() and sign):
        raise UploadRefused(f"`{METADATA}` is expected as key=value, not {text[:80]!r}")
    return key.strip(), value.strip()


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise UploadRefused(f"the upload is no multipart form: {error}; upload again") from error


async def _drain(body: AsyncIterator[bytes]) -> None:
    left = DRAINED
    async for data in body:
        left -= len(data)
        if left <= 0:
            return
