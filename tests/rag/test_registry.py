"""Versions of the model on disk: what is kept, what answers, and that a write that fails changes neither."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from rag.adapters import read_adapter
from rag.errors import FinetuneError
from rag.finetune import registry
from rag.finetune.registry import add, current, rollback, use, versions
from rag.prompt import PROMPT
from rag.settings import Settings

WEIGHTS = b"weights" * 1000
ENTRY: dict[str, Any] = {
    "created": "2026-11-23T11:50:09+00:00",
    "base": {"name": "small", "sha256": "b" * 64},
    "prompt": PROMPT,
    "method": "lora",
    "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    "data": {"questions": 1200},
    "figures": {"leases": {"tuned alone": {}}},
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (folder / "README.md").write_text("what peft says of it")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """What is written to the temporary name of a file meets a full disk."""
    part = path.with_name(path.name + ".part")
    part.symlink_to("/dev/full")
    yield
    part.unlink(missing_ok=True)


def test_a_version_holds_the_adapter_and_what_is_known_of_it(settings: Settings, adapter: Path) -> None:
    assert add(settings, adapter, ENTRY) == "v1"
    folder = settings.home / "models" / "v1"
    assert names(folder) == ["adapter_config.json", "adapter_model.safetensors", "footnote.json"]
    assert (folder / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert json.loads((folder / "footnote.json").read_text()) == {"version": "v1", **ENTRY}
    found = read_adapter(folder)
    assert (found.version, found.sha256, found.base_sha256) == ("v1", ENTRY["sha256"], "b" * 64)


def test_keeping_a_version_does_not_let_it_answer(settings: Settings, adapter: Path) -> None:
    add(settings, adapter, ENTRY)
    assert current(settings) == "shipped"
    assert not (settings.home / "models" / "current.json").exists()


def test_numbers_go_up_and_are_not_given_twice(settings: Settings, adapter: Path) -> None:
    assert [add(settings, adapter, ENTRY) for _ in range(10)][-1] == "v10"
    (settings.home / "models" / "v3" / "footnote.json").unlink()
    assert add(settings, adapter, ENTRY) == "v11"
    assert [row.version for row in versions(settings)] == [
        "none",
        "shipped",
        "v1",
        "v2",
        *(f"v{n}" for n in range(4, 12)),
    ]


def test_the_list_says_which_one_answers(settings: Settings, adapter: Path) -> None:
    assert [(row.version, row.current) for row in versions(settings)] == [("none", False), ("shipped", True)]
    use(settings, add(settings, adapter, ENTRY))
    _, _, last = versions(settings)
    assert last == (
        "v1",
        True,
        ENTRY["created"],
        "lora",
        "small",
        ENTRY["sha256"],
        str(settings.home / "models" / "v1"),
    )


def test_rolling_back_goes_step_by_step(settings: Settings, adapter: Path) -> None:
    for _ in range(2):
        use(settings, add(settings, adapter, ENTRY))
    use(settings, "none")
    use(settings, "none")
    assert [rollback(settings) for _ in range(3)] == ["v2", "v1", "shipped"]
    assert current(settings) == "shipped"
    with pytest.raises(
        FinetuneError, match=r"no version answered before 'shipped'; choose one with `footnote finetune"
    ):
        rollback(settings)
    use(settings, "v2")
    assert rollback(settings) == "shipped", "what was rolled back is no step any more"


def test_a_version_that_is_gone_is_not_rolled_back_to(settings: Settings, adapter: Path) -> None:
    use(settings, add(settings, adapter, ENTRY))
    use(settings, "none")
    (settings.home / "models" / "v1").rename(settings.home / "elsewhere")
    with pytest.raises(FinetuneError, match=r"there is no version 'v1'; choose one of: none, shipped$"):
        rollback(settings)
    assert current(settings) == "none"


@pytest.mark.parametrize("version", ["v2", "", "latest", "../v1", "v01"])
def test_an_unknown_version_changes_nothing(settings: Settings, adapter: Path, version: str) -> None:
    use(settings, add(settings, adapter, ENTRY))
    with pytest.raises(FinetuneError, match=r"choose one of: none, shipped, v1$"):
        use(settings, version)
    assert current(settings) == "v1"


def test_a_full_disk_leaves_the_current_version(settings: Settings, adapter: Path) -> None:
    use(settings, add(settings, adapter, ENTRY))
    path = settings.home / "models" / "current.json"
    before = path.read_bytes()
    for change in (lambda: use(settings, "none"), lambda: rollback(settings)):
        with full_disk(path), pytest.raises(FinetuneError, match=r"current\.json cannot be written: No space left"):
            change()
        assert path.read_bytes() == before
    use(settings, "none")
    assert current(settings) == "none"


def test_a_copy_that_fails_midway_leaves_no_version(settings: Settings, adapter: Path) -> None:
    use(settings, add(settings, adapter, ENTRY))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(WEIGHTS) // 2, hard))
    try:
        with pytest.raises(FinetuneError, match=r"models cannot be written: File too large; free some disk"):
            add(settings, adapter, ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(settings.home / "models") == ["current.json", "lock", "v1"]
    assert current(settings) == "v1"
    assert add(settings, adapter, ENTRY) == "v2"


def test_what_a_killed_process_left_is_no_version(settings: Settings, adapter: Path) -> None:
    part = settings.home / "models" / ".v1.part"
    part.mkdir(parents=True)
    (part / "adapter_config.json").write_text("{")
    assert [row.version for row in versions(settings)] == ["none", "shipped"]
    assert add(settings, adapter, ENTRY) == "v1"
    assert not part.exists()


def test_an_adapter_that_changed_since_it_was_judged_is_refused(settings: Settings, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(FinetuneError, match=rf"{ENTRY['sha256'][:12]} was judged; evaluate it anew"):
        add(settings, adapter, ENTRY)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(FinetuneError, match=r"adapter has no adapter_model\.safetensors; give the directory"):
        add(settings, adapter, ENTRY)
    assert [row.version for row in versions(settings)] == ["none", "shipped"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"current": 2, "before": []}', '{"current": "v1"}', "\xff"])
def test_a_damaged_choice_is_told_and_can_be_made_anew(settings: Settings, adapter: Path, text: str) -> None:
    add(settings, adapter, ENTRY)
    path = settings.home / "models" / "current.json"
    path.write_text(text, encoding="latin-1")
    for read in (current, rollback, versions):
        with pytest.raises(FinetuneError, match=r"current\.json is damaged \(.+\); choose a version with") as caught:
            read(settings)
        assert "\n" not in str(caught.value)
        assert path.read_text(encoding="latin-1") == text
    use(settings, "v1")
    assert current(settings) == "v1"
    with pytest.raises(FinetuneError, match="no version answered before 'v1'"):
        rollback(settings)


def test_a_damaged_note_is_named(settings: Settings, adapter: Path) -> None:
    add(settings, adapter, ENTRY)
    (settings.home / "models" / "v1" / "footnote.json").write_text("{")
    with pytest.raises(FinetuneError, match=r"v1/footnote\.json is damaged .*; remove its directory"):
        versions(settings)


def test_one_process_at_a_time_changes_the_versions(
    settings: Settings, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WAIT", 0.05)
    add(settings, adapter, ENTRY)
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    other = spawn.Process(target=hold, args=(settings.home / "models" / "lock", theirs))
    other.start()
    assert ours.recv() == "held"
    with pytest.raises(FinetuneError, match=r"another process is changing .*models; try again when it is done"):
        use(settings, "v1")
    assert current(settings) == "shipped", "reading waits for nobody"
    ours.send("go")
    other.join()
    use(settings, "v1")
    assert current(settings) == "v1"


def hold(path: Path, told: Any) -> None:
    from filelock import FileLock

    with FileLock(path):
        told.send("held")
        told.recv()
