"""Old Word and PowerPoint files (.doc, .ppt) and OpenDocument presentations (.odp): turned into .docx and .pptx by
LibreOffice, then read as these.

Knows nothing about what is in them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.ods import is_locked
from ingest.parse.slides import parse_pptx
from ingest.parse.word import parse_docx
from rag.errors import ParseError

_NAME = "footnote-source"
_OPTIONS = {
    "Office.Common/Security/Scripting": {
        "BlockUntrustedRefererLinks": "true",
        "DisableMacrosExecution": "true",
        "MacroSecurityLevel": "3",
    },
    "Inet/Settings": {
        "ooInetProxyType": "2",
        "ooInetHTTPProxyName": "127.0.0.1",
        "ooInetHTTPProxyPort": "9",
        "ooInetHTTPSProxyName": "127.0.0.1",
        "ooInetHTTPSProxyPort": "9",
        "ooInetNoProxy": "",
    },
}
"""No macros, and no network: as it comes, LibreOffice fetches the pictures that a document links to."""
_OPTION = (
    '<item oor:path="/org.openoffice.{path}"><prop oor:name="{name}" oor:op="fuse"><value>{value}</value></prop></item>'
)


_LOCKS = (("WordDocument", 10, 2, 0x0100), ("Current User", 12, 4, 0xF3D1C4DF))
"""Stream, where in it a field begins, its length, and what it holds if the file is encrypted."""


class _Route(NamedTuple):
    old: str
    new: str
    package: str
    parse: Callable[[Path], ParsedDocument]
    locked: Callable[[Path], bool]


def _ole_locked(path: Path) -> bool:
    """True where a password is needed ([MS-DOC] 2.5.2, fEncrypted; [MS-PPT] 2.3.2, headerToken)."""
    import olefile

    with olefile.OleFileIO(path) as container:
        for stream, at, length, mark in _LOCKS:
            if container.exists(stream):
                field = container.openstream(stream).read(at + length)[at:]
                return int.from_bytes(field, "little") & mark == mark
    return False


_DOC = _Route(".doc", ".docx", "libreoffice-writer-nogui", parse_docx, _ole_locked)
_PPT = _Route(".ppt", ".pptx", "libreoffice-impress-nogui", parse_pptx, _ole_locked)
_ODP = _Route(".odp", ".pptx", "libreoffice-impress-nogui", parse_pptx, is_locked)


def parse_doc(path: Path, context: Context) -> ParsedDocument:
    """Read an old Word document.

    Raises:
        ParseError: if LibreOffice is not installed, or cannot read it.
    """
    return _read(path, context, _DOC)


def parse_ppt(path: Path, context: Context) -> ParsedDocument:
    """Read an old PowerPoint presentation.

    Raises:
        ParseError: if LibreOffice is not installed, or cannot read it.
    """
    return _read(path, context, _PPT)


def parse_odp(path: Path, context: Context) -> ParsedDocument:
    """Read an OpenDocument presentation.

    Raises:
        ParseError: if LibreOffice is not installed, or cannot read it.
    """
    return _read(path, context, _ODP)


def _read(path: Path, context: Context, route: _Route) -> ParsedDocument:
    program = shutil.which("soffice") or shutil.which("libreoffice")
    if program is None:
        raise ParseError(f"LibreOffice is needed to read it; install it: apt-get install {route.package}")
    if route.locked(path):
        raise ParseError("it needs a password; remove the password and save it anew")
    # Its content has shown what it is; LibreOffice goes by the suffix.
    source = context.spool / f"{_NAME}{route.old}"
    shutil.copyfile(path, source)
    parsed = route.parse(_converted(program, source, route))
    return replace(parsed, title=path.stem) if parsed.title == _NAME else parsed


def _converted(program: str, source: Path, route: _Route) -> Path:
    """The file that LibreOffice makes of `source`. It ends with the process group that this process is in."""
    profile, folder = source.parent / "libreoffice", source.parent / "converted"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(_settings(), encoding="utf-8")
    command = [
        program,
        # A profile of its own: two LibreOffices with one profile give each other's work up.
        f"-env:UserInstallation={profile.absolute().as_uri()}",
        *("--headless", "--norestore", "--convert-to", route.new.lstrip("."), "--outdir", str(folder), str(source)),
    ]
    done = subprocess.run(  # noqa: S603 - no shell, and a path of our own
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    made = folder / f"{_NAME}{route.new}"
    if not made.exists():  # its exit code is 0 even then
        raise ParseError(f"LibreOffice cannot convert it ({_reason(done)}); {_remedy(route)}")
    return made


def _settings() -> str:
    options = (
        _OPTION.format(path=path, name=name, value=value)
        for path, values in _OPTIONS.items()
        for name, value in values.items()
    )
    return f'<oor:items xmlns:oor="http://openoffice.org/2001/registry">{"".join(options)}</oor:items>'


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if not line.startswith("Warning:")]
    return next((line.removeprefix("Error: ") for line in said if line), f"exit code {done.returncode}, no message")


def _remedy(route: _Route) -> str:
    """LibreOffice says the same of a damaged file and of one for which a part of it is not installed."""
    return f"save it anew as {route.new}, or install what may be missing: apt-get install {route.package}"
