"""Where settings come from, and what a person is told about one that cannot be used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from rag.errors import SettingsError
from rag.settings import Settings

KEY = "sk-secret-0123456789"


def write(home: Path, text: str) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "footnote.toml").write_text(text, encoding="utf-8")
    return home


def refusal(**flags: object) -> str:
    """The message of the error that these settings end in; it must be one line and name what to do."""
    with pytest.raises(SettingsError) as error:
        Settings.load(**flags)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    assert Settings.load(home=home).port == 7860
    write(home, "port = 1001")
    assert Settings.load(home=home).port == 1001
    monkeypatch.setenv("FOOTNOTE_PORT", "1002")
    assert Settings.load(home=home).port == 1002
    assert Settings.load(home=home, port=1003).port == 1003


def test_each_setting_finds_its_own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write(tmp_path / "home", 'fusion = "rrf"\npassages = 7')
    monkeypatch.setenv("FOOTNOTE_PASSAGES", "8")
    loaded = Settings.load(home=home, candidates=30)
    assert (loaded.fusion, loaded.passages, loaded.candidates, loaded.dense_weight) == ("rrf", 8, 30, 0.6)


def test_a_flag_that_was_not_given_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_COLLECTION", "letters")
    assert Settings.load(home=tmp_path, collection=None).collection == "letters"


def test_an_empty_variable_counts_as_unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_PORT", "")
    assert Settings.load(home=tmp_path).port == 7860


def test_home_comes_from_the_environment_and_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write(tmp_path / "elsewhere", "port = 1004")
    monkeypatch.setenv("FOOTNOTE_HOME", str(home))
    loaded = Settings.load()
    assert (loaded.home, loaded.port, loaded.cache_dir) == (home, 1004, home / "cache")


def test_home_is_below_the_users_own_when_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOOTNOTE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.load().home == tmp_path / ".footnote"


def test_a_tilde_and_a_relative_path_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loaded = Settings.load(home="~/notes", cache="conversions")
    assert loaded.home == tmp_path / "notes"
    assert loaded.cache_dir == tmp_path / "conversions"


def test_a_setting_does_not_change_once_it_is_loaded(tmp_path: Path) -> None:
    loaded = Settings.load(home=tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.port = 1


def test_threads_default_to_the_cores_this_process_may_use(tmp_path: Path) -> None:
    assert Settings.load(home=tmp_path).cores == len(os.sched_getaffinity(0))
    assert Settings.load(home=tmp_path, threads=3).cores == 3


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path) -> None:
    message = refusal(home=write(tmp_path, "chunk_token = 100"))
    assert "chunk_token:" in message
    assert "footnote.toml" in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", 70000, "65535"),
        ("port", "http", "integer"),
        ("fusion", "mean", "'convex' or 'rrf'"),
        ("embed_backend", "cuda", "openvino-int8"),
        ("chunk_tokens", 3, "16"),
        ("dense_weight", 1.5, "1"),
        ("passages", 0, "1"),
        ("min_relevance", "high", "number"),
        ("llm_timeout", 0, "greater than 0"),
        ("llm_retries", -1, "0"),
        ("temperature", 9, "2"),
        ("collection", "../else", "pattern"),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_bad_value_is_refused_with_its_name_what_was_found_and_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, expected: str, source: str
) -> None:
    flags: dict[str, object] = {"home": write(tmp_path, "")}
    if source == "flag":
        flags[name] = value
    elif source == "file":
        write(tmp_path, f"{name} = {json.dumps(value)}")
    else:
        monkeypatch.setenv(f"FOOTNOTE_{name.upper()}", str(value))
    message = refusal(**flags)
    assert f"setting {name}:" in message
    assert expected in message
    assert str(value) in message
    assert f"FOOTNOTE_{name.upper()}" in message


def test_an_overlap_as_long_as_the_passage_is_refused(tmp_path: Path) -> None:
    message = refusal(home=tmp_path, chunk_tokens=50, chunk_overlap=50)
    assert "chunk_overlap is 50, it must be below chunk_tokens (50)" in message


def test_a_file_that_is_not_toml_is_explained(tmp_path: Path) -> None:
    message = refusal(home=write(tmp_path, "port = = 3"))
    assert "footnote.toml" in message
    assert "line 1" in message


def test_a_file_in_another_encoding_is_explained(tmp_path: Path) -> None:
    (tmp_path / "footnote.toml").write_bytes('host = "h\xf6st"'.encode("latin-1"))
    assert "footnote.toml" in refusal(home=tmp_path)


@pytest.mark.parametrize("name", ["qdrant_api_key", "llm_api_key"])
def test_keys_are_never_shown(tmp_path: Path, name: str) -> None:
    loaded = Settings.load(home=tmp_path, **{name: KEY})
    assert getattr(loaded, name).get_secret_value() == KEY
    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), f"{loaded.model_dump()}"):
        assert KEY not in shown


@pytest.mark.parametrize(
    "line",
    [
        'llm_api_key = ["{key}"]',
        'openai_api_key = "{key}"',
        'llm_api_token = "{key}"',
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated_in_the_message(tmp_path: Path, line: str) -> None:
    assert KEY not in refusal(home=write(tmp_path, line.replace("{key}", KEY)))
