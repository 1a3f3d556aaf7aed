"""The house's rules, checked on the syntax trees: who may import whom, and what belongs where. And the README's lists.

The tables below are the rules. A change of the architecture is a change of a table, and shows in its diff.
Knows nothing about what the modules do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "rag": {"rag"},
    "ingest": {"ingest", "rag"},
    "eval": {"eval", "ingest", "rag"},
    "ui": {"ui", "eval", "ingest", "rag"},
}
"""Package -> the packages that it may import from."""

LAYERS = {
    "rag.types": 0,
    "rag.errors": 0,
    "rag.filter": 0,
    "rag.settings": 0,
    "rag.store.protocol": 0,
    "rag.aside": 0,
    "rag.priority": 0,
    "rag.together": 0,
    "rag.tracing": 1,
    "rag.weights": 1,
    "rag.tokens": 1,
    "rag.embed": 1,
    "rag.sparse": 1,
    "rag.fuse": 1,
    "rag.prompt": 1,
    "rag.llm": 1,
    "rag.sentences": 1,
    "rag.align": 2,
    "rag.joint": 3,
    "rag.windows": 3,
    "rag.scorer": 3,
    "rag.checkable": 3,
    "rag.lora": 3,
    "rag.convert": 4,
    "rag.evidence": 4,
    "rag.verify": 5,
    "rag.store.points": 2,
    "rag.store.lock": 2,
    "rag.store.gate": 2,
    "rag.store.swap": 2,
    "rag.store.shard": 2,
    "rag.store.optimize": 2,
    "rag.store.edge": 2,
    "rag.store.aliases": 2,
    "rag.store.refusals": 2,
    "rag.store.server": 2,
    "rag.store.opening": 2,
    "rag.checking": 6,
    "rag.models": 6,
    "rag.rewrite": 2,
    "rag.declines": 2,
    "rag.retrieve": 3,
    "rag.rerank": 3,
    "rag.answer": 7,
    "rag.llama_index": 8,
    "rag.adapters": 1,
    "rag.finetune.plan": 0,
    "rag.finetune.sheets": 1,
    "rag.finetune.clause": 3,
    "rag.finetune.disguise": 3,
    "rag.finetune.questions": 3,
    "rag.finetune.data": 4,
    "rag.finetune.packing": 2,
    "rag.finetune.feedback": 3,
    "rag.finetune.writer": 4,
    "rag.finetune.runs": 1,
    "rag.finetune.base": 2,
    "rag.finetune.tuning": 3,
    "rag.finetune.train": 5,
    "rag.finetune.recipe": 0,
    "rag.finetune.records": 0,
    "rag.finetune.promote": 1,
    "rag.finetune.registry": 2,
    "rag.finetune.lexicon": 2,
    "rag.finetune.wording": 3,
    "rag.finetune.claims": 4,
    "rag.finetune.statements": 5,
    "rag.finetune.checker": 5,
    "rag.finetune.export": 5,
    "rag.finetune.blend": 6,
    "rag.finetune.verifier": 7,
}
"""Module of `rag` -> its layer. A module imports from lower layers; from its own, only what `SIBLINGS` allows."""

SIBLINGS = {
    "rag.settings": {"rag.errors"},
    "rag.store.protocol": {"rag.types", "rag.filter"},
    "rag.embed": {"rag.weights"},
    "rag.adapters": {"rag.weights", "rag.prompt"},
    "rag.llm": {"rag.adapters", "rag.weights", "rag.embed"},
    "rag.tokens": {"rag.embed", "rag.weights"},
    "rag.retrieve": {"rag.rerank"},
    "rag.finetune.questions": {"rag.finetune.clause"},
    "rag.store.swap": {"rag.store.lock"},
    "rag.store.shard": {"rag.store.points"},
    "rag.store.optimize": {"rag.store.shard"},
    "rag.store.edge": {
        "rag.store.gate",
        "rag.store.lock",
        "rag.store.optimize",
        "rag.store.points",
        "rag.store.shard",
        "rag.store.swap",
    },
    "rag.store.aliases": {"rag.store.points"},
    "rag.store.server": {"rag.store.aliases", "rag.store.points", "rag.store.refusals"},
    "rag.store.opening": {
        "rag.store.aliases",
        "rag.store.edge",
        "rag.store.points",
        "rag.store.server",
        "rag.store.swap",
    },
}

OWNERS = {
    "torch": {
        "rag.convert",
        "rag.embed",
        "rag.llm",
        "rag.joint",
        "rag.finetune.base",
        "rag.finetune.checker",
        "rag.finetune.tuning",
    },
    "transformers": {"rag.convert", "rag.llm", "rag.joint", "rag.finetune.base"},
    "sentence_transformers": {"rag.embed", "rag.rerank", "eval.judges"},
    "openvino": {"rag.convert", "rag.embed", "rag.tokens", "rag.scorer"},
    "openvino_genai": {"rag.convert", "rag.llm"},
    "nncf": {"rag.convert"},
    "gguf": {"rag.convert", "rag.finetune.export"},
    "peft": {"rag.convert", "rag.llm", "rag.finetune.base"},
    "openai": {"rag.llm"},
    "qdrant_client": {
        "rag.store.server",
        "rag.store.aliases",
        "rag.store.refusals",
        "eval.bench.store",
        "eval.bench.ingest_peer",
    },
    "qdrant_edge": {"rag.store.shard"},
    "llama_index": {"ingest.chunk", "rag.llama_index", "eval.bench.ingest_peer"},
    "unstructured": {"ingest.parse.via_unstructured", "eval.bench.pages"},
    "ray": {"ingest.cluster"},
    "xllamacpp": {"eval.bench.llm"},
    "fastapi": {
        "ui.api",
        "ui.server.asking",
        "ui.server.collections",
        "ui.server.documents",
        "ui.server.evaluation_routes",
        "ui.server.health",
        "ui.server.kept_routes",
        "ui.server.openai",
        "ui.server.problems",
        "ui.server.sources",
    },
    "uvicorn": {"ui.serving"},
    "opentelemetry": {"rag.tracing"},
    "gradio": {
        "ui.api",
        "ui.chat",
        "ui.history",
        "ui.opinion",
        "ui.parts",
        "ui.quality",
        "ui.shelf",
        "ui.state",
        "ui.web",
        "ui.within",
    },
}
"""Heavy library -> the modules that own it. They import it inside functions, so that starting is quick."""

AT_TOP = {
    ("rag.joint", "torch"),
    ("rag.finetune.checker", "torch"),
    ("rag.finetune.tuning", "torch"),
    ("rag.llama_index", "llama_index"),
    ("ui.api", "fastapi"),
    ("ui.server.asking", "fastapi"),
    ("ui.server.collections", "fastapi"),
    ("ui.server.documents", "fastapi"),
    ("ui.server.evaluation_routes", "fastapi"),
    ("ui.server.health", "fastapi"),
    ("ui.server.kept_routes", "fastapi"),
    ("ui.server.openai", "fastapi"),
    ("ui.server.problems", "fastapi"),
    ("ui.server.sources", "fastapi"),
    ("ui.chat", "gradio"),
    ("ui.history", "gradio"),
    ("ui.opinion", "gradio"),
    ("ui.parts", "gradio"),
    ("ui.quality", "gradio"),
    ("ui.shelf", "gradio"),
    ("ui.state", "gradio"),
    ("ui.web", "gradio"),
    ("ui.within", "gradio"),
}
"""Modules whose top level may import a heavy library, because they are themselves imported late."""

ENVIRONMENT_READERS = {"rag.settings"}
ENVIRONMENT_WRITERS = {
    "eval.bench.ingest_peer",
    "rag.convert",
    "ingest.cluster",
    "ingest.parse.via_unstructured",
    "ui.web",
}
"""Modules that switch a library's telemetry or downloads off by a variable, before they import it."""

LONGEST_MODULE = 400


class Import(NamedTuple):
    line: int
    name: str
    """Dotted, as far as it is known to be a module."""
    at_top: bool
    """True where importing the module carries it out."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages, `__init__` left out."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {dotted(path): path for path in paths if path.name != "__init__.py"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def walk(node: ast.AST, at_top: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, with whether importing the module reaches it."""
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or only_for_types(child)
        yield child, at_top
        yield from walk(child, at_top and not later)


@cache
def imports(module: str) -> list[Import]:
    found = []
    for node, at_top in walk(tree(module)):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name, at_top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: a relative import; write the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [Import(node.lineno, n if n in modules() else str(node.module), at_top) for n in names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            constants = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            found += [Import(node.lineno, name, at_top) for name in constants]
    return list(dict.fromkeys(found))


def top(name: str) -> str:
    return name.split(".")[0]


def test_packages_import_in_one_direction() -> None:
    wrong = [
        f"{module}:{line}: imports {name}; {top(module)} may import from {sorted(PACKAGES[top(module)])} only"
        for module in modules()
        for line, name, _ in imports(module)
        if top(name) in PACKAGES and top(name) not in PACKAGES[top(module)]
    ]
    assert not wrong


def test_every_module_of_rag_has_a_layer() -> None:
    new = [m for m in modules() if top(m) == "rag" and m not in LAYERS and not m.startswith("rag.finetune.")]
    assert not new, "new modules: give each a layer in LAYERS (tests/test_architecture.py)"


def test_the_layers_of_rag_import_downwards() -> None:
    wrong = []
    for module, layer in LAYERS.items():
        for line, name, _ in imports(module) if module in modules() else ():
            below = LAYERS.get(name, -1) < layer or name in SIBLINGS.get(module, ())
            if top(name) == "rag" and not below:
                wrong.append(f"{module}:{line}: imports {name}, which is not below it; see LAYERS and SIBLINGS")
    assert not wrong


def test_heavy_libraries_stay_behind_their_doors() -> None:
    wrong = [
        f"{module}:{line}: imports {name}; that belongs to {sorted(OWNERS[top(name)])}"
        for module in modules()
        for line, name, _ in imports(module)
        if top(name) in OWNERS and module not in OWNERS[top(name)]
    ]
    assert not wrong


def test_heavy_libraries_are_imported_when_they_are_needed() -> None:
    wrong = [
        f"{module}:{line}: imports {name} at the top; import it inside the function that uses it"
        for module in modules()
        for line, name, at_top in imports(module)
        if at_top and top(name) in OWNERS and (module, top(name)) not in AT_TOP
    ]
    assert not wrong


def test_what_loads_a_library_at_its_top_is_itself_loaded_late() -> None:
    late = {module for module, _ in AT_TOP}
    wrong = [
        f"{module}:{line}: imports {name} at the top, and with it a heavy library"
        for module in modules()
        for line, name, at_top in imports(module)
        if at_top and name in late and module not in late
    ]
    assert not wrong


def test_only_ui_prints() -> None:
    wrong = [
        f"{module}:{node.lineno}: prints; return the text, or log it"
        for module in modules()
        if top(module) != "ui"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert not wrong


def environment_uses(module: str) -> Iterator[tuple[int, bool]]:
    """Line of every use of the environment, and whether it is no more than a write."""
    parents = {child: node for node in ast.walk(tree(module)) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if {alias.name for alias in node.names} & {"environ", "environb", "getenv"}:
                yield node.lineno, False
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}:
            yield node.lineno, writes(parents[node], parents)


def writes(user: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    if isinstance(user, ast.Subscript):
        return isinstance(user.ctx, ast.Store)
    if isinstance(user, ast.Attribute) and user.attr in {"setdefault", "update"}:
        return isinstance(parents[parents[user]], ast.Expr)
    return False


def test_only_the_settings_read_the_environment() -> None:
    wrong = [
        f"{module}:{line}: {'writes' if only_writes else 'reads'} the environment; settings belong to rag/settings.py"
        for module in modules()
        if module not in ENVIRONMENT_READERS
        for line, only_writes in environment_uses(module)
        if not (only_writes and module in ENVIRONMENT_WRITERS)
    ]
    assert not wrong


def test_modules_can_be_read_in_one_sitting() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()}
    too_long = {module: lines for module, lines in lengths.items() if lines > LONGEST_MODULE}
    assert not too_long, f"more than {LONGEST_MODULE} lines: split them"


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            parsed = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(parsed), f"{path.relative_to(ROOT)}: no docstring"
            assert len(parsed.body) == 1, f"{path.relative_to(ROOT)}: code in __init__.py"


# --- README.md


def section(heading: str) -> list[str]:
    """The lines of README.md below a heading of the second level, up to the next one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f'README.md has no section "## {heading}"'
    return found[1].splitlines()


def readme_tree() -> dict[str, str]:
    """Path -> description, of the first fenced block under "What is where".

    A line holds a name, two spaces or more, and a description; indentation gives the folder; folders end in a slash.
    """
    lines = section("What is where")
    start = next((number for number, line in enumerate(lines) if line.startswith("```")), None)
    assert start is not None, 'README.md has no fenced block under "What is where"'
    block = lines[start + 1 : lines.index("```", start + 1)]
    listed: dict[str, str] = {}
    folders: list[tuple[int, str]] = []
    for line in filter(str.strip, block):
        indent = len(line) - len(line.lstrip())
        name, _, description = line.strip().partition("  ")
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        path = (folders[-1][1] if folders else "") + name
        assert path not in listed, f"README.md lists {path} twice"
        listed[path] = description.strip()
        if name.endswith("/"):
            folders.append((indent, path))
    return listed


def test_readme_names_only_what_is_there() -> None:
    wrong = [
        path for path in readme_tree() if not (ROOT / path).exists() or (ROOT / path).is_dir() != (path[-1] == "/")
    ]
    assert not wrong, "README.md lists what is not on disk (folders end in a slash)"


def test_readme_names_every_module_in_a_line() -> None:
    listed = readme_tree()
    missing = [str(path.relative_to(ROOT)) for path in modules().values() if str(path.relative_to(ROOT)) not in listed]
    assert not missing, 'README.md\'s tree under "What is where" lacks these'
    assert not [path for path, description in listed.items() if not description], "paths without a description"


def documented_commands() -> set[tuple[str, ...]]:
    """The commands in the first column of the table under "Commands", arguments left out."""
    rows = [line.split("|")[1] for line in section("Commands") if line.startswith("|")]
    commands = [command.split()[1:] for row in rows for command in re.findall(r"`(footnote [^`]+)`", row)]
    assert commands, 'README.md has no table of commands under "Commands"'
    return {
        tuple(words[: next((n for n, word in enumerate(words) if not is_name(word)), len(words))]) for words in commands
    }


def is_name(word: str) -> bool:
    return re.fullmatch(r"[a-z][a-z-]*", word) is not None


def real_commands() -> set[tuple[str, ...]]:
    """The commands that `footnote --help` and the groups' own help list."""
    from typer.main import get_command

    from ui.cli import app

    def leaves(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield path
            return
        for name, inner in below.items():
            if not inner.hidden:
                yield from leaves(inner, (*path, name))

    return set(leaves(get_command(app), ()))


def test_readme_lists_the_commands_that_there_are() -> None:
    assert documented_commands() == real_commands()
