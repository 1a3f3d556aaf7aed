"""Which adapter the language model runs with: the one that ships, a promoted one, one that the settings name, or none.

Reads what is on disk; knows nothing about how an adapter is trained, judged or merged.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.errors import SettingsError, WeightsError
from rag.prompt import PROMPT
from rag.settings import Settings
from rag.weights import Weights, sha256_of

log = logging.getLogger("footnote.adapters")

CONFIG, WEIGHTS, NOTE = "adapter_config.json", "adapter_model.safetensors", "footnote.json"
"""The files of an adapter's directory: what peft writes, and what Footnote knows of it."""
SHIPPED, NONE = "shipped", "none"
"""Versions that are always there: the adapter that comes with Footnote, and the base model as it is."""
SHIPPED_FOLDER = Path(__file__).parent / "tuned"
CURRENT = "current.json"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A PEFT adapter on this machine."""

    version: str
    """Its name: the version that it was promoted to, `shipped`, or its directory's name."""
    path: Path
    sha256: str
    """Of its weights."""
    kind: str
    """As peft calls it: `LORA`, `PROMPT_TUNING`, `PREFIX_TUNING`."""
    base_sha256: str = ""
    """Of the weights that it was trained on; empty where nobody said."""

    @property
    def id(self) -> str:
        """Version and the first 12 digits of the hash."""
        return f"{self.version}@{self.sha256[:12]}"

    @property
    def merges(self) -> bool:
        """True where it can become part of the weights."""
        return self.kind == "LORA"


def models_folder(settings: Settings) -> Path:
    """Where promoted versions are kept."""
    return settings.home / "models"


def current_version(settings: Settings) -> str:
    """The version in use: `shipped` until another one is chosen. Raises SettingsError: the choice cannot be read."""
    path = models_folder(settings) / CURRENT
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["current"])
    except FileNotFoundError:
        return SHIPPED
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}); choose a version with `footnote finetune use`"
        ) from None


def find_adapter(settings: Settings, base: Weights) -> Adapter | None:
    """The adapter that the language model is to run with; None where it runs as it is.

    A version is used with the weights that it was trained on and with no others.

    Args:
        settings: `llm_adapter` names a version, a directory or `none`; empty means the version in use.
        base: the language model's weights.

    Raises:
        SettingsError: `llm_adapter` names no adapter, or one for other weights.
        WeightsError: the adapter's files are damaged.
    """
    named = settings.llm_adapter
    version = named or current_version(settings)
    if version == NONE:
        return None
    folder = SHIPPED_FOLDER if version == SHIPPED else models_folder(settings) / version
    if (folder / CONFIG).exists():
        adapter = read_adapter(folder, "" if folder == Path(named) else version)
    elif named and named != SHIPPED:
        adapter = read_adapter(Path(named).expanduser().absolute())
    else:
        return None
    if adapter.base_sha256 in ("", base.sha256):
        return adapter
    if not named:
        return None
    raise SettingsError(
        f"llm_adapter: the adapter {adapter.path} was trained on weights {adapter.base_sha256[:12]}, llm_model "
        f"has {base.sha256[:12]} ({base.name}); change one of the two"
    )


def read_adapter(folder: Path, version: str = "") -> Adapter:
    """The adapter in a directory.

    Raises:
        SettingsError: there is none.
        WeightsError: its files are damaged.
    """
    if not (folder / CONFIG).exists():
        raise SettingsError(f"llm_adapter: no {CONFIG} in {folder}; give the directory of a PEFT adapter, or `none`")
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(f"the adapter {folder} has no {WEIGHTS}; make or copy it anew")
    kind, note = _read(folder / CONFIG).get("peft_type", ""), _read(folder / NOTE) if (folder / NOTE).exists() else {}
    if note and note.get("prompt") != PROMPT:
        log.warning(
            "the adapter %s was trained on prompts of version %s, this is version %s: its answers may be worse; "
            "train it anew",
            folder,
            note.get("prompt"),
            PROMPT,
        )
    base = note.get("base", {}).get("sha256", "")
    return Adapter(version or note.get("version") or folder.name, folder, sha256_of(folder / WEIGHTS), kind, base)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("not an object")
        return found
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be used ({error}); make or copy the adapter anew") from None
