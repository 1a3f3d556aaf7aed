"""Messages -> pieces of text, from OpenVINO GenAI, transformers or an OpenAI-compatible server.

One generation at a time per object; a generator that is closed stops its generation. Knows nothing about
passages, citations or the store.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from rag.adapters import Adapter, find_adapter
from rag.aside import aside
from rag.embed import cuda
from rag.errors import LLMError, LLMUnreachable, SettingsError
from rag.priority import give_way, niceness
from rag.settings import Settings
from rag.types import Message
from rag.weights import Weights, converted, find_llm, hub_folder

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""OpenVINO's own choice is bf16 where a CPU has it, and answers would depend on that."""


class LLM(Protocol):
    """What writes answers."""

    name: str
    """Model name, with the weights' hash where they are local, and the adapter's version where there is one."""
    tuned: bool
    """True where it was tuned to answer from passages and to decline."""

    def count_tokens(self, text: str) -> int:
        """How many tokens a text takes; an estimate on the high side where the tokenizer is not at hand."""

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        """Pieces of the reply as they are written.

        Raises:
            LLMError: the model failed; `LLMUnreachable` where its server does not answer.
        """


def open_llm(settings: Settings) -> LLM:
    """The language model that the settings name.

    Raises:
        WeightsError: its weights are not on this machine.
        SettingsError: settings that do not go together.
    """
    backend = settings.llm_backend
    if backend == "openai" or (backend == "auto" and settings.llm_base_url):
        return OpenAILLM(settings)
    weights = find_llm(settings.llm_model)
    adapter = find_adapter(settings, weights)
    fits = adapter is None or (adapter.merges and weights.path.suffix == ".gguf")
    if backend == "transformers" or (backend == "auto" and (cuda() or not fits)):
        return TransformersLLM(weights, settings, adapter)
    if not fits:
        raise SettingsError(
            "llm_backend `openvino` takes LoRA adapters of GGUF files only; set llm_backend to `transformers`, "
            "or llm_adapter to `none`"
        )
    return OpenVINOLLM(weights, settings, adapter)


def _named(weights: Weights, adapter: Adapter | None) -> str:
    return f"{weights.id}+{adapter.id}" if adapter else weights.id


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _stream_from_thread(generate: Callable[[Callable[[str], bool]], None], nice: int = 0) -> Generator[str]:
    """Run a callback-driven generation in a thread of this niceness and yield what it emits.

    `generate` is given `emit(piece) -> go_on`; it must stop soon after `go_on` is False. Closing the generator
    makes `emit` return False and waits for the thread.
    """
    pieces: queue.Queue[str | BaseException | None] = queue.Queue()
    stopped = threading.Event()

    def emit(piece: str) -> bool:
        pieces.put(piece)
        return not stopped.is_set()

    def work() -> None:
        give_way(nice)
        try:
            generate(emit)
            pieces.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            pieces.put(error)

    thread = threading.Thread(target=work, name="generate", daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise LLMError(f"the language model failed: {piece}") from piece
            if piece:
                yield piece
    finally:
        stopped.set()
        thread.join()


class OpenVINOLLM:
    """OpenVINO GenAI on the CPU: a GGUF (repacked to Q8_0 once), or a directory with an exported OpenVINO model."""

    def __init__(self, weights: Weights, settings: Settings, adapter: Adapter | None = None) -> None:
        import openvino_genai

        folder = weights.path
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": settings.cores}
        if folder.suffix == ".gguf":
            options |= EXACT  # an exported model has the precision that its owner chose
            why = f"repacking the language model {_named(weights, adapter)} to Q8_0 for OpenVINO"
            folder = converted("llm-q8-1", weights, settings.cache_dir, why, *_merging(adapter))
        elif not (folder / "openvino_model.xml").exists():
            raise LLMError(
                f"{folder} holds no GGUF and no OpenVINO model; give a GGUF file, or set llm_backend to `transformers`"
            )
        self.folder = folder
        """Where the model that runs is; a repacked GGUF is `model.gguf` in it."""
        self.name, self.tuned = _named(weights, adapter), adapter is not None
        self._lock = threading.Lock()
        self._nice = niceness()  # OpenVINO's own threads inherit it here; the one that calls it does as much as they
        self._pipeline = aside(lambda: openvino_genai.LLMPipeline(str(folder), "CPU", **options))
        self._tokenizer = self._pipeline.get_tokenizer()
        config = self._pipeline.get_generation_config()
        config.max_new_tokens = settings.max_new_tokens
        config.do_sample = settings.temperature > 0
        config.temperature = settings.temperature or 1.0
        # The template is applied here, so that the prompt is the same on every backend.
        config.apply_chat_template = False
        self._config = config

    def count_tokens(self, text: str) -> int:
        """See `LLM.count_tokens`."""
        return int(self._tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        """See `LLM.stream`."""
        return self.generate(self.prompt(messages))

    def prompt(self, messages: Sequence[Message]) -> str:
        """The messages in the model's own chat template."""
        prompt: str = self._tokenizer.apply_chat_template(_turns(messages), add_generation_prompt=True)
        return prompt

    def generate(self, prompt: str) -> Generator[str]:
        """What the model writes after a prompt that is already in its template."""

        def generate(emit: Callable[[str], bool]) -> None:
            with self._lock:
                self._pipeline.generate(prompt, self._config, _streamer(self._tokenizer, emit))

        return _stream_from_thread(generate, self._nice)


def _streamer(tokenizer: Any, emit: Callable[[str], bool]) -> Any:
    """Emits each token's text as soon as it is whole; GenAI's own streamer stays three tokens behind."""
    from openvino_genai import StreamerBase, StreamingStatus

    class Streamer(StreamerBase):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.line: list[int] = []
            self.shown = ""

        def write(self, token: int | list[int]) -> StreamingStatus:
            self.line += token if isinstance(token, list) else [token]
            text = tokenizer.decode(self.line)
            # A letter may take several tokens, and a token may change how the one before it is written.
            whole = not text.endswith("\N{REPLACEMENT CHARACTER}") and text.startswith(self.shown)
            going = self.show(text) if whole else True
            if whole and text.endswith("\n"):
                self.line, self.shown = [], ""
            return StreamingStatus.RUNNING if going else StreamingStatus.STOP

        def show(self, text: str) -> bool:
            piece, self.shown = text[len(self.shown) :], text
            return emit(piece)

        def end(self) -> None:
            text = tokenizer.decode(self.line) if self.line else ""
            if text.startswith(self.shown):
                self.show(text)

    return Streamer()


class TransformersLLM:
    """transformers, on CUDA where there is one, with an optional PEFT adapter."""

    def __init__(self, weights: Weights, settings: Settings, adapter: Adapter | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = hub_folder(weights, settings.cache_dir)
        on_gpu = cuda()
        dtype = torch.bfloat16 if on_gpu else torch.float32
        self.name, self.tuned = _named(weights, adapter), adapter is not None
        self._lock = threading.Lock()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
        if adapter:
            model = _adapted(model, adapter)
        self._model = model.to("cuda" if on_gpu else "cpu").eval()
        self._settings = settings

    def count_tokens(self, text: str) -> int:
        """See `LLM.count_tokens`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        """See `LLM.stream`."""
        turns = _turns(messages)
        inputs = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        return _stream_from_thread(lambda emit: self._generate(inputs, emit))

    def _generate(self, inputs: Any, emit: Callable[[str], bool]) -> None:
        import torch
        from transformers import StoppingCriteriaList, TextStreamer

        going = True

        class Streamer(TextStreamer):  # type: ignore[misc]
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                nonlocal going
                going = emit(text)

        def stop(ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
            return torch.full((ids.shape[0],), not going, device=ids.device, dtype=torch.bool)

        temperature = self._settings.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        with self._lock, torch.inference_mode():
            self._model.generate(
                **inputs,
                **sampling,
                max_new_tokens=self._settings.max_new_tokens,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                streamer=Streamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True),
                stopping_criteria=StoppingCriteriaList([stop]),
            )


def _merging(adapter: Adapter | None) -> tuple[Path | None, str]:
    return (adapter.path, adapter.sha256) if adapter else (None, "")


def _adapted(model: Any, adapter: Adapter) -> Any:
    from peft import PeftModel

    try:
        adapted = PeftModel.from_pretrained(model, str(adapter.path))
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise LLMError(f"the adapter {adapter.path} does not fit the language model: {said}") from None
    return adapted.merge_and_unload() if adapter.merges else adapted


class OpenAILLM:
    """Any server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, LM Studio."""

    def __init__(self, settings: Settings) -> None:
        import openai

        if not settings.llm_base_url:
            raise SettingsError("llm_backend `openai` needs llm_base_url, such as http://localhost:8000/v1; set it")
        self._settings, self.tuned = settings, True
        self._client = openai.OpenAI(
            base_url=settings.llm_base_url,
            api_key=settings.llm_api_key.get_secret_value() or "none",
            timeout=settings.llm_timeout,
            max_retries=settings.llm_retries,
        )
        # The client reads these from the environment: another program's account is nobody's business here.
        self._client.organization = self._client.project = None
        self.name = settings.llm_model if settings.llm_model != "bundled" else self._only_model()

    def count_tokens(self, text: str) -> int:
        """An estimate: a token is about four characters of English; three are counted, to be on the safe side."""
        return len(text) // 3 + 1

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        """See `LLM.stream`. Closing the generator closes the connection, which makes the server stop."""
        turns: Any = _turns(messages)
        with self._errors():
            chunks = self._client.chat.completions.create(
                model=self.name,
                messages=turns,
                max_tokens=self._settings.max_new_tokens,
                temperature=self._settings.temperature,
                seed=0,
                stream=True,
            )
            with closing(chunks):
                kind = chunks.response.headers.get("content-type", "")
                if "text/event-stream" not in kind:
                    raise ValueError(f"{kind or 'no content type'} where text/event-stream was expected")
                for chunk in chunks:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content

    def structured(self, messages: Sequence[Message], name: str, schema: Mapping[str, Any], max_tokens: int) -> str:
        """The whole reply to messages as JSON text of a JSON schema, at temperature 0; a server may not hold to it.

        Raises:
            LLMError: the model failed; `LLMUnreachable` where its server does not answer.
        """
        turns: Any = _turns(messages)
        form: Any = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}
        with self._errors():
            reply = self._client.chat.completions.create(
                model=self.name, messages=turns, max_tokens=max_tokens, temperature=0, seed=0, response_format=form
            )
            if not reply.choices:
                raise ValueError("a reply without choices")
            return reply.choices[0].message.content or ""

    def _only_model(self) -> str:
        """The model that the server serves first, for servers that serve just one."""
        with self._errors():
            names = [model.id for model in self._client.models.list().data]
        if not names:
            raise LLMError(f"the server at {self._settings.llm_base_url} serves no model; load one, or set llm_model")
        return names[0]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's exceptions, turned into ours."""
        import httpx
        import openai

        url, timeout = self._settings.llm_base_url, self._settings.llm_timeout
        mend = "start it, or unset FOOTNOTE_LLM_BASE_URL to use the local model"
        try:
            yield
        except (openai.APITimeoutError, httpx.TimeoutException):
            raise LLMUnreachable(
                f"no answer from the language model's server at {url} within {timeout:g} s; {mend}"
            ) from None
        except (openai.APIConnectionError, httpx.TransportError) as error:
            cause = str(error.__cause__ or error).strip() or type(error).__name__
            raise LLMUnreachable(f"no answer from the language model's server at {url}: {cause}; {mend}") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise LLMError(
                f"the server at {url} refused the key ({error.status_code}); set FOOTNOTE_LLM_API_KEY"
            ) from None
        except openai.APIStatusError as error:
            said = " ".join(str(error.message).split())[:200]
            raise LLMError(
                f"the server at {url} answered {error.status_code}: {said}; check llm_model and the server's log"
            ) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            # The client trusts a server to send what it should: anything else surfaces as one of these.
            said = " ".join(str(error).split())[:200]
            raise LLMError(
                f"the server at {url} sent something unexpected: {said}; is it OpenAI-compatible, "
                "and does llm_base_url end in /v1?"
            ) from None
