"""All settings, in one frozen object: flags, then environment (`FOOTNOTE_*`), then `footnote.toml`, then defaults.

`footnote.toml` is read from the home directory. Nothing else in the project reads the environment.
Knows nothing about what the settings are used for.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from rag.errors import SettingsError

Strictness = Literal["mark", "drop", "refuse"]
COLLECTION_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def default_home() -> Path:
    """`$FOOTNOTE_HOME`, else `~/.footnote`."""
    return Path(os.environ.get("FOOTNOTE_HOME") or Path.home() / ".footnote").expanduser()


class Settings(BaseSettings):
    """Everything a user can set. docs/settings.md is generated from these descriptions."""

    model_config = SettingsConfigDict(env_prefix="FOOTNOTE_", frozen=True, extra="forbid", env_ignore_empty=True)
    toml_name: ClassVar[str] = "footnote.toml"

    home: Path = Field(
        default_factory=default_home, description="Directory of the index, the catalog and converted weights."
    )
    cache: Path | None = Field(None, description="Directory of converted weights; `<home>/cache` when unset.")
    collection: str = Field("default", pattern=COLLECTION_NAME, description="Which set of documents.")

    embed_model: str = Field(
        "bundled", description="Embedding weights: `bundled`, a directory, or a hub id that is already downloaded."
    )
    embed_backend: Literal["auto", "openvino-int8", "openvino", "sentence-transformers"] = Field(
        "auto", description="What runs the embedder; `auto` is `sentence-transformers` on CUDA, else `openvino-int8`."
    )
    threads: int = Field(0, ge=0, description="CPU threads for the models; 0 takes all cores.")
    chunk_tokens: int = Field(200, ge=16, description="Longest passage, in the embedder's tokens.")
    chunk_overlap: int = Field(20, ge=0, description="Tokens that neighbouring passages share.")

    parse_workers: int = Field(0, ge=0, description="Processes that read files side by side; 0 takes one a core.")
    parse_memory_mb: int = Field(2048, ge=256, description="Memory that reading one file may take, in MB.")
    parse_seconds: float = Field(
        120.0, gt=0, description="Seconds that one file, or one scanned page, may take; one more for each MB."
    )
    max_unpacked_mb: int = Field(
        1024, ge=1, description="Size that an archive's or a message's members may have together, unpacked, in MB."
    )
    ocr_languages: str = Field(
        "eng",
        pattern=r"^[A-Za-z0-9_/]+(\+[A-Za-z0-9_/]+)*$",
        description="Languages of scanned text, as tesseract names them, such as `eng+deu`.",
    )

    qdrant_url: str = Field(
        "", description="Qdrant server, such as `http://localhost:6333`; empty uses the embedded store."
    )
    qdrant_api_key: SecretStr = Field(SecretStr(""), description="API key of the Qdrant server.")
    qdrant_timeout: float = Field(30.0, gt=0, description="Seconds to wait for the Qdrant server.")

    candidates: int = Field(100, ge=1, le=1000, description="Passages taken from each retriever before fusion.")
    fusion: Literal["convex", "rrf"] = Field("convex", description="How the two rankings become one.")
    dense_weight: float = Field(
        0.6, ge=0, le=1, description="Share of the dense score in convex fusion; the rest is BM25's."
    )
    feedback: float = Field(
        0.2,
        ge=0,
        le=1,
        description="How far convex fusion moves the question towards the first passages found; 0 switches it off.",
    )
    rerank_model: str = Field(
        "", description="Cross-encoder that orders the best passages anew: a directory, or a downloaded hub id."
    )
    passages: int = Field(
        4, ge=1, le=50, description="Passages that are found for an answer, which it is checked against."
    )
    reading: Literal["auto", "together", "alone"] = Field(
        "auto",
        description="How the language model reads them: all `together`, or the better half one by one, each `alone`, until one has the answer; `auto` is `alone` with the bundled model and an adapter, else `together`.",
    )
    max_question_chars: int = Field(8000, ge=1, description="Longest question accepted, in characters.")
    min_relevance: float = Field(
        0.3, ge=-1, le=1, description="Cosine that the closest passage needs, or the question is declined."
    )

    follow_ups: Literal["auto", "rules", "llm", "off"] = Field(
        "auto",
        description="What makes a follow-up question stand alone before the search; `auto` is `rules` with the bundled language model, else `llm`.",
    )

    llm_backend: Literal["auto", "openvino", "transformers", "openai"] = Field(
        "auto",
        description="What runs the language model; `auto` is `openai` where a base URL is set, `transformers` on CUDA, else `openvino`.",
    )
    llm_model: str = Field(
        "bundled",
        description="Language model: `bundled`, a GGUF file, a directory, a downloaded hub id, or the server's model name.",
    )
    llm_adapter: str = Field(
        "",
        description="Adapter of the language model: empty for the version in use (`footnote finetune list`), another version, `none`, or the directory of a PEFT adapter.",
    )
    llm_base_url: str = Field("", description="OpenAI-compatible server, such as `http://localhost:8000/v1`.")
    llm_api_key: SecretStr = Field(SecretStr(""), description="API key of that server.")
    llm_timeout: float = Field(60.0, gt=0, description="Seconds to wait for that server.")
    llm_retries: int = Field(
        2,
        ge=0,
        le=10,
        description="Tries after the first one, on refused connections and 408, 409, 429 and 5xx answers.",
    )
    prompt_tokens: int = Field(1200, ge=200, description="Longest prompt, in the language model's tokens.")
    max_new_tokens: int = Field(192, ge=1, description="Longest answer, in the language model's tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy: the same question gives the same answer.")

    checker_model: str = Field(
        "bundled",
        description="Weights of the checker: `bundled`, or a directory that `footnote finetune verifier` made.",
    )
    min_support: float = Field(0.5, ge=0, le=1, description="Support score from which a sentence gets its footnote.")
    strictness: Strictness = Field(
        "mark",
        description="What becomes of sentences without support: `mark` shows and marks them, `drop` leaves them out, `refuse` declines the whole answer.",
    )

    host: str = Field("127.0.0.1", description="Address that `footnote chat` listens on.")
    port: int = Field(7860, ge=1, le=65535, description="Port that `footnote chat` listens on.")
    auth: bool = Field(False, description="Ask for a sign-in; needed on every address that other machines can reach.")
    allowed_hosts: list[str] = Field(
        [],
        description="Host names that requests may be for, such as `docs.example.org`; empty is any, but on 127.0.0.1 only this machine's own.",
    )
    max_upload_mb: int = Field(512, ge=1, description="Largest file that can be uploaded, in MB.")
    max_upload_files: int = Field(500, ge=1, description="Files that one upload may have.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the log on standard error: plain, or JSON objects."
    )
    log_requests: bool = Field(False, description="Log a line for every request: its id, route, status and time.")
    log_texts: bool = Field(
        False,
        description="Log questions and answers, too, and put them into traces; they may tell what documents hold.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s/]+\S*)?$",
        description="OpenTelemetry collector that traces are sent to (OTLP over HTTP), such as `http://127.0.0.1:4318`; empty sends none. `OTEL_EXPORTER_OTLP_ENDPOINT`, which may be set for other programs, does not count.",
    )
    requests_per_minute: int = Field(
        1200,
        ge=0,
        description="Requests a minute of each user, each API key and each address that shows neither, where `auth` is on; 0 sets no limit.",
    )
    waiting_questions: int = Field(
        32, ge=0, description="Questions that may wait for the language model; more are refused for the time being."
    )
    answer_seconds: float = Field(
        300.0, gt=0, description="Seconds that a question may wait for its turn, and that writing its answer may take."
    )
    answer_cache: int = Field(
        256, ge=0, description="Answers that are kept for the same question, until the index changes; 0 keeps none."
    )

    @field_validator("home", "cache", mode="after")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @model_validator(mode="after")
    def _overlap_fits(self) -> Settings:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ValueError(
                f"chunk_overlap is {self.chunk_overlap}, it must be below chunk_tokens ({self.chunk_tokens})"
            )
        return self

    @property
    def cache_dir(self) -> Path:
        """Where converted weights are kept."""
        return self.cache or self.home / "cache"

    @property
    def bundled_llm(self) -> bool:
        """True where answers are written by the model that comes with Footnote."""
        return self.llm_model == "bundled" and self.llm_backend != "openai" and not self.llm_base_url

    @property
    def cores(self) -> int:
        """CPU threads to use: `threads`, or all that this process may run on."""
        affinity = getattr(os, "sched_getaffinity", None)
        return self.threads or (len(affinity(0)) if affinity else os.cpu_count() or 1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over `footnote.toml`."""
        flags = init_settings()
        home = Path(flags.get("home") or default_home()).expanduser()
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, home / cls.toml_name)

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """Settings from every source; a flag that is None counts as not given.

        Raises:
            SettingsError: naming the setting, what was found and what is expected.
        """
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            name = ".".join(str(part) for part in first["loc"]) or message.split()[0]
            # What stands under an unknown name may be a key that was misspelled: it is not repeated.
            told = first["loc"] and "key" not in name and first["type"] != "extra_forbidden"
            found = f" (found {first['input']!r})" if told else ""
            raise SettingsError(
                f"setting {name}: {message}{found}; see docs/settings.md, "
                f"and look in the flags, FOOTNOTE_{name.upper()} and footnote.toml"
            ) from None
        except UnicodeDecodeError as error:
            raise SettingsError(f"footnote.toml is not valid UTF-8 ({error.reason}); save it as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(
                f"footnote.toml is not valid TOML: {error}; mend that line or remove the file"
            ) from None
