"""What is made aside comes back, and leaves the thread that asked for it as it was."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from rag.aside import aside
from rag.settings import Settings
from tests.conftest import ROOT


def test_it_returns_what_was_made_in_a_thread_that_has_ended() -> None:
    made = aside(threading.current_thread)
    assert made is not threading.current_thread()
    assert not made.is_alive()


@pytest.mark.parametrize("error", [ValueError("no such model"), KeyboardInterrupt()])
def test_it_raises_what_was_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as found:
        aside(fail)
    assert found.value is error


SIGNAL = """
import gc, os, signal, sys
from pathlib import Path
from rag.embed import open_embedder
from rag.llm import open_llm
from rag.settings import Settings
from rag.types import Message

settings = Settings.load()
models = [open_embedder(settings), open_llm(settings), open_embedder(settings)]
for model in models:
    model.embed(["one"]) if hasattr(model, "embed") else next(model.stream([Message("user", "Hello")]))
while models:
    models.pop(0)  # in the order of their coming
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
print("alive")
"""


@pytest.mark.slow
def test_a_signal_is_heard_after_models_have_gone(real_settings: Settings) -> None:
    done = subprocess.run([sys.executable, "-c", SIGNAL], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\nalive\n"), done.stderr
