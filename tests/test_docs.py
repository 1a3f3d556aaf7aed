"""The user guide says what the code does: commands, settings, JSON fields, links.

`python -m tests.test_docs` rewrites the table in docs/settings.md. Knows nothing about how well the guide reads.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import typer.main
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from ingest.audit import Fault, Report
from ingest.results import FileResult, Summary
from rag.settings import Settings
from rag.types import Answer, Citation, Document, Sentence, Timings
from tests.conftest import OpenRag, make_hit
from ui import records
from ui.api import create_app
from ui.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ENOUGH_WORDS = 4500

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(footnote [^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
VARIABLE = re.compile(r"FOOTNOTE_[A-Z][A-Z_]*")
TABLE = re.compile(r"(<!-- settings:begin -->\n).*?(<!-- settings:end -->)", re.DOTALL)
FIELDS = re.compile(r"<!-- fields:(\w+) -->\n(.*?)<!-- fields:end -->", re.DOTALL)
FIRST_CELL = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


# --- settings


def settings_table() -> str:
    """Every setting as a row of a Markdown table: name, environment variable, default, meaning."""
    rows = ["| setting | environment variable | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        meaning = field.description or ""
        choices = [f"`{choice}`" for choice in get_args(field.annotation) if isinstance(choice, str)]
        if choices:
            meaning += f" One of {', '.join(choices)}."
        rows.append(f"| `{name}` | `FOOTNOTE_{name.upper()}` | {_default(name)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(name: str) -> str:
    """A default as a user would write it."""
    default = Settings.model_fields[name].default
    if name == "home" and default is PydanticUndefined:
        return "`~/.footnote`"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return "empty" if default in (None, "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def with_settings_table(text: str) -> str:
    """The page with a fresh table between its markers."""
    return TABLE.sub(lambda found: f"{found[1]}\n{settings_table()}\n{found[2]}", text)


def test_settings_page_lists_every_setting_as_the_code_has_it() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert TABLE.search(text), "docs/settings.md has lost its markers <!-- settings:begin --> and <!-- settings:end -->"
    assert text == with_settings_table(text), "docs/settings.md is stale: refresh it with `python -m tests.test_docs`"


@pytest.mark.parametrize(
    "path",
    [*PAGES, *(ROOT / name for name in ("README.md", "Dockerfile", "docker-compose.yml", ".env.example"))],
    ids=lambda path: path.name,
)
def test_every_variable_named_is_a_setting(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    known = {f"FOOTNOTE_{name.upper()}" for name in Settings.model_fields}
    assert set(VARIABLE.findall(path.read_text(encoding="utf-8"))) <= known


def test_example_footnote_toml_is_accepted(tmp_path: Path) -> None:
    blocks = [body for page in PAGES for language, body in FENCE.findall(page.read_text("utf-8")) if language == "toml"]
    assert blocks
    for body in blocks:
        (tmp_path / "footnote.toml").write_text(body, encoding="utf-8")
        Settings.load(home=tmp_path)


# --- commands


class Command(NamedTuple):
    """A `footnote` command line in a page. One in the running text may leave arguments out."""

    arguments: list[str]
    is_whole: bool


def commands(text: str) -> Iterator[Command]:
    """The commands in a page's shell blocks, then those in its running text."""
    blocks = [body.replace("\\\n", " ") for language, body in FENCE.findall(text) if language in ("sh", "bash", "")]
    for line in "\n".join(blocks).splitlines():
        yield from (Command(arguments, True) for arguments in _split(line))
    for line in INLINE.findall(FENCE.sub("", text)):
        yield from (Command(arguments, False) for arguments in _split(line))


def _split(line: str) -> Iterator[list[str]]:
    """Cut at pipes and the like; the program may stand behind assignments or `docker compose exec app`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    borders = [i for i, word in enumerate(words) if set(word) <= set("|&;<>()")]
    for start, end in zip([-1, *borders], [*borders, len(words)], strict=True):
        part = words[start + 1 : end]
        program = next((i for i, word in enumerate(part) if word.split("/")[-1] == "footnote"), None)
        if program is not None:
            yield part[program + 1 :]


def refusal(command: Command) -> str:
    """Why the command line refuses this; empty where it does not."""
    found: Any = typer.main.get_command(app)
    words = [word.removesuffix("...") for word in command.arguments if word not in ("--help", "...")]
    while words and hasattr(found, "commands"):
        name = words.pop(0)
        if name not in found.commands:
            return f"no command {name!r}"
        found = found.commands[name]
    if hasattr(found, "commands"):
        return ""
    try:
        found.make_context(found.name, words)
    except Exception as error:  # noqa: BLE001 - whatever the parser has against it
        incomplete = type(error).__name__ == "MissingParameter" and not command.is_whole
        return "" if incomplete else f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_command_is_accepted_by_the_command_line(page: Path) -> None:
    found = commands(page.read_text(encoding="utf-8"))
    assert {" ".join(each.arguments): why for each in found if (why := refusal(each))} == {}


def test_commands_are_found_and_wrong_ones_refused() -> None:
    block = '```sh\nX=1 .venv/bin/footnote ask "a b" --nope | jq .\nfootnote ask\n```\n'
    found = list(commands(f'{block}and `footnote fly`, `footnote search --json` or `footnote search "q" -k 3`'))
    assert [" ".join(each.arguments) for each in found] == [
        "ask a b --nope",
        "ask",
        "fly",
        "search --json",
        "search q -k 3",
    ]
    assert [bool(refusal(each)) for each in found] == [True, True, True, False, False]


def test_command_page_has_a_section_for_every_command() -> None:
    headings = HEADING.findall((DOCS / "cli.md").read_text(encoding="utf-8"))
    command: Any = typer.main.get_command(app)
    assert [name for name in command.commands if f"footnote {name}" not in headings] == []


# --- JSON


def field_paths(value: Any, prefix: str = "") -> set[str]:
    """Paths of all fields, such as `hits[].doc`; what `via` and `metadata` hold depends on the passage."""
    if isinstance(value, Mapping) and not prefix.endswith(("via", "metadata")):
        return {path for key, part in value.items() for path in field_paths(part, f"{prefix}.{key}".lstrip("."))}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return field_paths(value[0], f"{prefix}[]")
    return {prefix}


def produced() -> dict[str, Any]:
    """What each command prints with --json, made from small records."""
    hit = make_hit("The Aurora carries 240 passengers.")
    note = Citation(1, "/d/a.pdf", "A", 2, ("Ships",), 0, 3, "The")
    sentence = Sentence("The Aurora carries 240 passengers.", 0.9, (note,))
    answer = Answer("How many?", sentence.text, False, (sentence,), (hit,), Timings(1.0, 2.0, 3.0, 4.0, 10.0), "m")
    document = Document("id", "/d/a.pdf", "A", "failed", 0, 0, "00", 0, "parse", "empty")
    failure = FileResult("/d/a.pdf", "failed", stage="parse", reason="empty")
    summary = Summary(seen=1, failed=1, seconds=1.0, failures=[failure])
    return {
        "search": {"hits": [records.hit(hit)], "timings_ms": {"total": 1.0}},
        "ask": {**records.answer(answer), "hits": [{"": "as in search"}]},
        "ingest": records.summary(summary, Path("/h/quarantine/default.jsonl")),
        "audit": records.audit(Report(faults=[Fault("/d/a.pdf", "missing", "2 are gone")]), 0),
        "docs": {"collection": "default", "documents": [records.document(document)]},
    }


@pytest.mark.parametrize("command", ["search", "ask", "ingest", "docs", "audit"])
def test_documented_json_fields_are_those_that_are_printed(command: str) -> None:
    tables = dict(FIELDS.findall((DOCS / "cli.md").read_text(encoding="utf-8")))
    printed = {path.rstrip(".") for path in field_paths(produced()[command])}
    assert set(FIRST_CELL.findall(tables[command])) == printed


def test_documented_endpoints_are_those_that_are_served(open_rag: OpenRag, catalog: Any) -> None:
    served = create_app(open_rag({"a.md": "# A\n\nText."}), catalog).openapi()["paths"]
    expected = {f"{method.upper()} {path}" for path, methods in served.items() for method in methods}
    assert set(FIRST_CELL.findall((DOCS / "api.md").read_text(encoding="utf-8"))) == expected


# --- links and size


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Every anchor of a page."""
    return {anchor(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        name, _, section = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if "://" in link or (target.is_file() and (not section or section in anchors(target))):
            continue
        broken.append(link)
    assert not broken


def test_every_page_is_linked_from_the_index() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert {page.name for page in PAGES} - {"index.md"} <= linked


def test_guide_is_long_enough_to_chat_with() -> None:
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in PAGES) >= ENOUGH_WORDS


def refresh() -> None:
    """Rewrite the generated part of docs/settings.md."""
    page = DOCS / "settings.md"
    page.write_text(with_settings_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    refresh()
