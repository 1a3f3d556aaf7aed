"""What `footnote doctor` says of the programs that read some formats, with stand-ins for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rag.settings import Settings
from ui.doctor import Check, examine

HELPERS = ("tesseract", "LibreOffice", "pandoc")
TESSERACT = """\
case "$1" in
    --list-langs) echo "List of available languages (2):"; echo eng; echo osd ;;
    --version) echo "tesseract 5.9.1" >&2 ;;
esac
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Check]]:
    """The checks of helper programs on a machine that has no others than these scripts, by name."""
    programs = tmp_path / "office" / "program"

    def examine_(languages: str = "eng", **scripts: str) -> dict[str, Check]:
        programs.mkdir(parents=True, exist_ok=True)
        for name, script in {"env": 'shift\nexec "$@"', **scripts}.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))
        checks = examine(
            Settings.load(home=tmp_path / "home", ocr_languages=languages, qdrant_url="http://127.0.0.1:9")
        )
        return {check.name: check for check in checks if check.name in HELPERS}

    return examine_


def test_helpers_that_are_not_there_are_optional_and_named(helpers) -> None:
    checks = helpers()
    assert set(checks) == set(HELPERS)
    assert all(check.ok for check in checks.values())
    assert checks["tesseract"].remedy == "sudo apt-get install tesseract-ocr"
    office = "sudo apt-get install libreoffice-writer-nogui libreoffice-impress-nogui"
    assert checks["LibreOffice"].remedy == office
    assert all("not installed (optional" in checks[name].detail for name in ("tesseract", "LibreOffice"))


def test_helpers_that_are_there_say_their_versions(helpers) -> None:
    checks = helpers(tesseract=TESSERACT, soffice="echo 'LibreOffice 7.4.7.2 40(Build:2)'")
    assert (checks["tesseract"].detail, checks["tesseract"].remedy) == ("5.9.1, languages: eng, osd", "")
    assert (checks["LibreOffice"].detail, checks["LibreOffice"].remedy) == ("7.4.7.2", "")


def test_a_language_without_data_is_named(helpers) -> None:
    check = helpers("eng+deu+chi_sim", tesseract=TESSERACT)["tesseract"]
    assert check.detail.endswith("eng+deu+chi_sim is asked for")
    assert check.remedy == "sudo apt-get install tesseract-ocr-deu tesseract-ocr-chi-sim"


def test_a_part_of_libreoffice_that_lacks_is_named(helpers, tmp_path: Path) -> None:
    registry = tmp_path / "office" / "share" / "registry"
    registry.mkdir(parents=True)
    (registry / "writer.xcd").touch()
    check = helpers(soffice="echo LibreOffice 24.2")["LibreOffice"]
    assert (check.detail, check.remedy) == ("24.2, without impress", "sudo apt-get install libreoffice-impress-nogui")


def test_a_helper_that_does_not_start_does_not_end_the_examination(helpers) -> None:
    check = helpers(soffice="exit 127")["LibreOffice"]
    assert check.detail == "installed, but does not say its version"


def test_pandoc_comes_with_footnote_and_is_named_where_it_does_not(helpers, monkeypatch: pytest.MonkeyPatch) -> None:
    import pypandoc

    assert helpers()["pandoc"].detail[0].isdigit()

    def missing() -> str:
        raise OSError("No pandoc was found")

    monkeypatch.setattr(pypandoc, "get_pandoc_version", missing)
    check = helpers()["pandoc"]
    assert check.ok
    assert check.remedy.startswith("make setup")
