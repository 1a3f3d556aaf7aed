"""Language models: the OpenAI-compatible client against a small server on loopback, and the bundled weights."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rag.errors import LLMError, LLMUnreachable, SettingsError
from rag.llm import LLM, OpenAILLM, OpenVINOLLM, TransformersLLM, open_llm
from rag.settings import Settings
from rag.types import Message

KEY = "sk-secret-0123456789"
QUESTION = [Message("system", "Be brief."), Message("user", "What are whales?")]
PATIENCE = 20
"""Seconds after which a test that waits for the other side gives up."""


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Notes each request and answers it with the next reply; the last one is repeated."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def end_headers(self) -> None:
        # Said aloud: a client that learns of it too late sends its next request into the closed connection.
        self.send_header("Connection", "close")
        super().end_headers()

    def answer(self, body: dict[str, Any]) -> None:
        self.close_connection = True
        with self.server.lock:
            self.server.requests.append(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            reply = self.server.replies[min(len(self.server.requests), len(self.server.replies)) - 1]
        reply(self)

    def whole(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, data: str) -> None:
        line = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def end(self) -> None:
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@dataclass(eq=False)
class Server(ThreadingHTTPServer):
    """Speaks as much of the protocol as the replies it is given."""

    replies: list[Reply]
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    daemon_threads = True

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def chunk(delta: dict[str, Any]) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def says(*pieces: str) -> Reply:
    def reply(handler: Handler) -> None:
        handler.begin()
        handler.event(chunk({"role": "assistant", "content": ""}))
        for piece in pieces:
            handler.event(chunk({"content": piece}))
        handler.end()

    return reply


def sends(*events: str) -> Reply:
    """Events as they are."""

    def reply(handler: Handler) -> None:
        handler.begin()
        for event in events:
            handler.event(event)
        handler.end()

    return reply


def status(code: int, message: str = "something is wrong") -> Reply:
    return lambda handler: handler.whole(code, "application/json", json.dumps({"error": {"message": message}}))


def page(handler: Handler) -> None:
    handler.whole(200, "text/html", "<html><body>Welcome</body></html>")


def models(*names: str) -> Reply:
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "me"} for name in names]
    return lambda handler: handler.whole(200, "application/json", json.dumps({"object": "list", "data": data}))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server that gives these replies, one a request."""
    servers: list[Server] = []

    def start(*replies: Reply) -> Server:
        server = Server(list(replies))
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def client(settings: Settings) -> Callable[..., OpenAILLM]:
    """Opens the client on a server's URL, without retries unless told otherwise."""

    def open_(url: str, **changes: Any) -> OpenAILLM:
        flags = {"llm_model": "served", "llm_retries": 0, "llm_timeout": PATIENCE, **changes}
        llm = open_llm(Settings.load(home=settings.home, llm_base_url=url, **flags))
        assert isinstance(llm, OpenAILLM)
        return llm

    return open_


Serve = Callable[..., Server]
Client = Callable[..., OpenAILLM]


def written(llm: LLM) -> str:
    return "".join(llm.stream(QUESTION))


def failure(llm: LLM) -> LLMError:
    """The error that a question ends in; one line, without the key."""
    with pytest.raises(LLMError) as error:
        written(llm)
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    return error.value


def test_pieces_come_as_the_server_writes_them(serve: Serve, client: Client) -> None:
    go_on = threading.Event()

    def reply(handler: Handler) -> None:
        handler.begin()
        handler.event(chunk({"content": "Whales "}))
        assert go_on.wait(PATIENCE)
        for piece in ("sind ", "Säugetiere ", "🐋."):
            handler.event(chunk({"content": piece}))
        handler.end()

    pieces = client(serve(reply).url).stream(QUESTION)
    assert next(pieces) == "Whales "
    go_on.set()
    assert list(pieces) == ["sind ", "Säugetiere ", "🐋."]


def test_the_server_is_asked_for_the_model_with_the_messages_greedily(serve: Serve, client: Client) -> None:
    server = serve(says("ok"))
    assert written(client(server.url, max_new_tokens=77)) == "ok"
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body["model"] == "served"
    assert request.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What are whales?"},
    ]
    assert (request.body["temperature"], request.body["max_tokens"], request.body["stream"]) == (0, 77, True)


def test_the_key_goes_into_the_authorization_header_and_nowhere_else(serve: Serve, client: Client) -> None:
    server = serve(says("ok"))
    written(client(server.url, llm_api_key=KEY))
    (request,) = server.requests
    assert request.headers.pop("authorization") == f"Bearer {KEY}"
    assert KEY not in json.dumps([request.path, request.headers, request.body])


def test_no_key_of_another_program_is_sent(serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    server = serve(says("ok"))
    written(client(server.url))
    assert KEY not in json.dumps(server.requests[0].headers)


def test_no_account_of_another_program_is_sent(serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-program")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another-program")
    server = serve(says("ok"))
    written(client(server.url))
    assert "of-another-program" not in json.dumps(server.requests[0].headers)


def test_chunks_without_text_are_passed_over(serve: Serve, client: Client) -> None:
    usage = json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []})
    empty = [chunk({"role": "assistant"}), chunk({"content": None}), chunk({"content": ""})]
    server = serve(sends(usage, *empty, chunk({"content": "yes"}), usage))
    assert list(client(server.url).stream(QUESTION)) == ["yes"]


def test_a_server_that_writes_nothing_gives_no_pieces(serve: Serve, client: Client) -> None:
    assert written(client(serve(says()).url)) == ""


def test_closing_the_stream_closes_the_connection(serve: Serve, client: Client) -> None:
    noticed = threading.Event()

    def endless(handler: Handler) -> None:
        handler.begin()
        try:
            while True:
                handler.event(chunk({"content": "on and " * 100}))
        except OSError:
            noticed.set()

    pieces = client(serve(endless).url).stream(QUESTION)
    assert next(pieces).startswith("on and")
    pieces.close()
    assert noticed.wait(PATIENCE)


def test_the_only_model_is_taken_where_none_is_named(serve: Serve, client: Client) -> None:
    server = serve(models("big-model", "other"), says("ok"))
    llm = client(server.url, llm_model="bundled")
    assert llm.name == "big-model"
    assert written(llm) == "ok"
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/chat/completions"]
    assert server.requests[1].body["model"] == "big-model"


def test_a_server_without_models_is_explained(serve: Serve, client: Client) -> None:
    with pytest.raises(LLMError, match=r"serves no model; load one, or set llm_model$"):
        client(serve(models()).url, llm_model="bundled")


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_passing_fault_is_tried_again(serve: Serve, client: Client, code: int) -> None:
    server = serve(status(code), says("ok"))
    assert written(client(server.url, llm_retries=2)) == "ok"
    assert len(server.requests) == 2


def test_a_fault_that_stays_is_tried_as_often_as_set_and_then_told(serve: Serve, client: Client) -> None:
    server = serve(status(500, "out of memory\non GPU 0"))
    message = str(failure(client(server.url, llm_retries=1)))
    assert len(server.requests) == 2
    assert server.url in message
    assert "500" in message
    assert "out of memory on GPU 0" in message


def test_without_retries_one_request_is_all(serve: Serve, client: Client) -> None:
    server = serve(status(500), says("never reached"))
    failure(client(server.url))
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_names_its_setting(serve: Serve, client: Client, code: int) -> None:
    server = serve(status(code, f"Incorrect API key provided: {KEY}"))
    message = str(failure(client(server.url, llm_api_key=KEY, llm_retries=3)))
    assert "FOOTNOTE_LLM_API_KEY" in message
    assert server.url in message
    assert len(server.requests) == 1


def test_an_unknown_model_names_its_setting(serve: Serve, client: Client) -> None:
    message = str(failure(client(serve(status(404, "The model `served` does not exist.")).url)))
    assert "404: " in message
    assert "The model `served` does not exist." in message
    assert "llm_model" in message


def test_a_prompt_that_the_server_refuses_is_told_in_its_words(serve: Serve, client: Client) -> None:
    message = str(failure(client(serve(status(400, "maximum context length is 2048 tokens")).url)))
    assert "maximum context length is 2048 tokens" in message


def unreachable(llm: LLM, url: str) -> str:
    error = failure(llm)
    assert isinstance(error, LLMUnreachable)
    message = str(error)
    assert url in message
    assert "start it, or unset FOOTNOTE_LLM_BASE_URL" in message
    return message


def test_a_server_that_is_not_there_is_named_with_the_remedy(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    assert "refused" in unreachable(client(url), url)
    with pytest.raises(LLMUnreachable):
        client(url, llm_model="bundled")


@pytest.mark.parametrize("before", [(), ("Whales ",)])
def test_a_server_that_falls_silent_is_named_with_the_time_out(
    serve: Serve, client: Client, before: tuple[str, ...]
) -> None:
    finished = threading.Event()

    def silent(handler: Handler) -> None:
        handler.begin()
        for piece in before:
            handler.event(chunk({"content": piece}))
        finished.wait(PATIENCE)

    server = serve(silent)
    try:
        assert "within 0.3 s" in unreachable(client(server.url, llm_timeout=0.3), server.url)
    finally:
        finished.set()


def test_a_server_that_never_answers_is_named_with_the_time_out(serve: Serve, client: Client) -> None:
    finished = threading.Event()
    server = serve(lambda _: finished.wait(PATIENCE) and None)
    try:
        assert "within 0.3 s" in unreachable(client(server.url, llm_timeout=0.3), server.url)
    finally:
        finished.set()


def test_a_connection_that_breaks_off_is_not_taken_for_the_end(serve: Serve, client: Client) -> None:
    def breaks_off(handler: Handler) -> None:
        handler.begin()
        handler.event(chunk({"content": "Whales are "}))

    server = serve(breaks_off)
    pieces = client(server.url).stream(QUESTION)
    assert next(pieces) == "Whales are "
    with pytest.raises(LLMUnreachable) as error:
        next(pieces)
    assert server.url in str(error.value)


def test_an_error_in_the_middle_of_an_answer_is_told(serve: Serve, client: Client) -> None:
    reply = sends(chunk({"content": "Whales "}), json.dumps({"error": {"message": "out of memory"}}))
    assert "out of memory" in str(failure(client(serve(reply).url)))


@pytest.mark.parametrize("reply", [sends('{"id": '), sends("hello"), page])
def test_a_server_that_speaks_something_else_is_explained(serve: Serve, client: Client, reply: Reply) -> None:
    assert "OpenAI-compatible" in str(failure(client(serve(reply).url)))


def test_a_list_of_models_that_is_something_else_is_explained(serve: Serve, client: Client) -> None:
    with pytest.raises(LLMError, match="OpenAI-compatible"):
        client(serve(page).url, llm_model="bundled")


@pytest.mark.parametrize("text", ["", "a", "The whale dived.", "x" * 1000, "Größe 你好"])
def test_tokens_are_counted_on_the_safe_side(client: Client, text: str) -> None:
    assert client("http://127.0.0.1:9/v1").count_tokens(text) >= len(text) / 4


def test_settings_that_do_not_go_together_are_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="llm_base_url"):
        open_llm(settings.model_copy(update={"llm_backend": "openai"}))
    with pytest.raises(SettingsError, match="llm_adapter"):
        open_llm(settings.model_copy(update={"llm_backend": "openvino", "llm_adapter": str(tmp_path)}))


@pytest.fixture(scope="module")
def opened() -> dict[str, Any]:
    """Models opened by the first test that needs them."""
    return {}


@pytest.fixture
def openvino(real_settings: Settings, opened: dict[str, Any]) -> OpenVINOLLM:
    if "openvino" not in opened:
        plain = {"max_new_tokens": 48, "llm_adapter": "none"}  # the tuned one tells no stories
        opened["openvino"] = open_llm(real_settings.model_copy(update=plain))
    llm = opened["openvino"]
    assert isinstance(llm, OpenVINOLLM)
    return llm


@pytest.mark.slow
def test_the_same_prompt_gives_the_same_answer_whatever_was_asked_between(openvino: OpenVINOLLM) -> None:
    first = written(openvino)
    assert "whale" in first.lower()
    assert list(openvino.stream([Message("user", "Write a poem about the sea.")]))
    assert written(openvino) == first
    assert openvino.name.startswith("SmolLM2-135M-Instruct@")


@pytest.mark.slow
def test_closing_early_stops_the_model_at_once(openvino: OpenVINOLLM) -> None:
    # A model that went on would hold its lock, and the next answer would have to wait for the end of this one.
    story = openvino.stream([Message("user", "Tell me a very long story about a ship.")])
    next(story)
    story.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "generate"]
    assert written(openvino)


@pytest.mark.slow
def test_characters_of_several_tokens_come_whole(openvino: OpenVINOLLM) -> None:
    prompt = [Message("user", "Repeat exactly, and write nothing else: 🐋 Säugetiere — naïve café 你好")]
    pieces = list(openvino.stream(prompt))
    assert len(pieces) > 3
    assert not [piece for piece in pieces if "\N{REPLACEMENT CHARACTER}" in piece]
    assert any(ord(character) > 127 for character in "".join(pieces))


@pytest.mark.slow
def test_control_tokens_are_not_part_of_the_answer(openvino: OpenVINOLLM) -> None:
    assert "<|" not in written(openvino)
    assert openvino.prompt(QUESTION).endswith("<|im_start|>assistant\n")
    assert openvino.prompt(QUESTION).count("<|im_start|>") == 3


@pytest.mark.slow
def test_tokens_are_counted_by_the_models_own_tokenizer(openvino: OpenVINOLLM) -> None:
    assert openvino.count_tokens("") == 0
    assert openvino.count_tokens("2024") == 4
    assert openvino.count_tokens("whale") < openvino.count_tokens("The whale dived under the ship.") < 12


@pytest.mark.slow
def test_transformers_writes_what_openvino_writes(real_settings: Settings, openvino: OpenVINOLLM) -> None:
    changes = {"llm_backend": "transformers", "llm_adapter": "none", "max_new_tokens": 12}
    settings = real_settings.model_copy(update=changes)
    llm = open_llm(settings)
    assert isinstance(llm, TransformersLLM)
    ours = written(llm)
    assert len(ours.split()) > 5
    assert written(openvino).startswith(ours.rstrip())
    assert written(llm) == ours
    assert llm.count_tokens("The whale dived.") == openvino.count_tokens("The whale dived.")
    pieces = llm.stream(QUESTION)
    next(pieces)
    pieces.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "generate"]


@pytest.mark.slow
def test_an_adapter_that_is_not_there_is_named(real_settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        open_llm(real_settings.model_copy(update={"llm_adapter": str(tmp_path / "adapter")}))
    assert str(tmp_path / "adapter") in str(error.value)
    assert "adapter_config.json" in str(error.value)


@pytest.mark.slow
def test_a_directory_that_openvino_cannot_run_is_explained(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(LLMError, match="set llm_backend to `transformers`"):
        open_llm(settings.model_copy(update={"llm_model": str(tmp_path), "llm_backend": "openvino"}))
