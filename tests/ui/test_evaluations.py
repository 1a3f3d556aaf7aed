"""Evaluations that the server makes: measured, stopped, taken up again, told, and kept from whom they are not for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from eval.run import Run, made_with, read_run
from rag.answer import Rag
from rag.errors import Busy, LLMError, StoreLocked
from rag.settings import Settings
from rag.types import Message
from tests.conftest import ROOT, OpenRag, ParrotLLM, until
from ui import quality
from ui.server import evaluation_models as models
from ui.server import queued
from ui.server.access import IDENTITY, Identity, allowed
from ui.server.evalsets import NoSuchSet, SetRefused
from ui.server.evaluation_routes import policy, router
from ui.server.evaluations import Evaluation, EvaluationConflict, Evaluations, Floor
from ui.server.problems import tell_problems
from ui.server.runlist import Figure
from ui.server.turns import Turns
from ui.trust import BUNDLED, HERE, MADE, METRICS, NOBODY, Trust, trust

AT = "/api/v1/evaluations"
CORPUS = [
    {"_id": "lease.md", "title": "Lease", "text": "The flat costs 900 euros a month. It ends on 31 May 2027."},
    {"_id": "ferry.md", "title": "Ferries", "text": "The Aurora carries 240 people. She sails at noon."},
]
QUESTIONS: list[dict[str, Any]] = [
    {"id": "q1", "question": "What costs the flat a month?", "answers": ["900 euros"], "relevant": ["lease.md"]},
    {"id": "q2", "question": "How many people carries the Aurora?", "answers": ["240"], "relevant": ["ferry.md"]},
    {"id": "q3", "question": "What is the capital of Peru?", "answerable": False},
]
NASTY = "<script>alert(1)</script>"
Json = dict[str, Any]


class HeldLLM(ParrotLLM):
    """Tells when it begins to write, and writes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        self.begun.release()
        assert self.go_on.acquire(timeout=60)
        yield from super().stream(messages)


class Brittle(ParrotLLM):
    """Fails at questions about boats."""

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        if "Aurora" in messages[-1].content.rpartition("Question: ")[2]:
            raise LLMError("the model ran out of memory")
        yield from super().stream(messages)


def lines(*rows: Json) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def a_set(folder: Path, *questions: Json) -> Path:
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(lines(*CORPUS))
    (folder / "qa.jsonl").write_text(lines(*(questions or QUESTIONS)))
    return folder


def verdict(**changes: Any) -> Json:
    passage = {"text": CORPUS[0]["text"], "title": "Lease", "doc": "lease.md"}
    row = {"question": "What costs the flat a month?", "answer": "900 euros", "verdict": "up", "passages": [passage]}
    return {**row, "collection": "default", **changes}


Make = Callable[..., Evaluations]


@pytest.fixture
def make(open_rag: OpenRag, settings: Settings) -> Iterator[Make]:
    """Evaluations over a collection with one document, with sets `town` and `own.jsonl` in the home directory."""
    a_set(settings.home / "sets" / "town")
    (settings.home / "sets" / "own.jsonl").write_text(
        lines({"id": "1", "question": "monthly rent", "answers": ["900"]})
    )
    (settings.home / "sets" / "notes.txt").write_text("no set")
    made: list[Evaluations] = []
    rags: list[Rag] = []

    def make_(llm: ParrotLLM | None = None, turns: Turns | None = None, floor: Floor | None = None) -> Evaluations:
        if not rags or llm:
            for rag in rags:
                rag.close()
            rags[:] = [open_rag({"lease.md": "# Rent\n\nThe monthly rent is 900 euros.\n"}, llm, min_relevance=-1.0)]
        made.append(Evaluations(rags[0], turns or Turns(8), floor))
        return made[-1]

    yield make_
    for each in made:
        each.close()


def over(evaluations: Evaluations, id_: str) -> Evaluation:
    """An evaluation when it does not go on any more."""
    *_, last = evaluations.watch(id_)
    assert last.kind == "end"
    return last.evaluation


def stopped_in_first(evaluations: Evaluations, llm: HeldLLM, set_: str | Path = "town") -> Evaluation:
    begun = evaluations.start(set_)
    assert llm.begun.acquire(timeout=60)
    llm.go_on.release()
    assert llm.begun.acquire(timeout=60)
    evaluations.stop(begun.id)
    llm.go_on.release(20)
    return over(evaluations, begun.id)


# --- measuring


def test_a_set_is_measured_and_kept_like_any_run(make: Make, settings: Settings) -> None:
    evaluations = make(Brittle())
    begun = evaluations.start("town", who="ana")
    assert (begun.state, begun.questions, begun.set, begun.who) == ("running", 3, "town", "ana")
    found = over(evaluations, begun.id)
    assert (found.state, found.done, found.failed, found.error) == ("finished", 3, 1, "")
    assert found.figures["correctness"].value == pytest.approx(1 / 3)
    assert found.figures["faithfulness"].value == pytest.approx(2 / 3)  # what failed is supported by nothing
    assert found.figures["abstention"].value == 0
    run = read_run(begun.id, settings)
    assert (run.kind, run.summary["failed"], len(run.records)) == ("answers", 1, 3)
    assert [each.id for each in evaluations.listed()] == [begun.id]
    again = Evaluations(evaluations.rag, Turns(8)).get(begun.id)  # as a server sees it that started later
    assert (again.state, again.who, again.questions, again.failed) == ("finished", "ana", 3, 1)
    assert again.figures == found.figures


def test_questions_without_documents_are_asked_of_the_collection(make: Make) -> None:
    evaluations = make()
    found = over(evaluations, evaluations.start("own.jsonl", who="ana").id)
    assert (found.state, found.figures["correctness"].value) == ("finished", 1)
    assert evaluations.rag.search("rent", 1)  # the collection is still open


def test_feedback_is_a_set(make: Make, settings: Settings) -> None:
    evaluations = make()
    assert [each.name for each in evaluations.sets.listed()] == ["own.jsonl", "town"]
    with pytest.raises(NoSuchSet, match="like or correct"):
        evaluations.start("feedback")
    settings.home.joinpath("feedback.jsonl").write_text(
        lines(verdict(), verdict(question="Who?", collection="letters"))
    )
    assert evaluations.sets.listed()[-1] == ("feedback", 2)
    found = over(evaluations, evaluations.start("feedback").id)
    assert (found.state, found.set, found.done) == ("finished", "feedback", 1)
    assert found.figures["contains"].value == 1


def test_some_of_the_questions(make: Make) -> None:
    evaluations = make()
    assert over(evaluations, evaluations.start("town", limit=2).id).done == 2


def test_each_measurement_is_kept_beside_the_others(make: Make) -> None:
    evaluations = make()
    first = over(evaluations, evaluations.start("town").id)
    second = over(evaluations, evaluations.start("town").id)
    assert first.id != second.id
    assert {each.id for each in evaluations.listed()} == {first.id, second.id}


def test_a_set_that_cannot_be_used_is_refused_at_once(make: Make, settings: Settings, tmp_path: Path) -> None:
    evaluations = make()
    bad = a_set(settings.home / "sets" / "bad", {"id": "1", "question": "Who?"})
    with pytest.raises(SetRefused, match=r"qa\.jsonl:1"):
        evaluations.start("bad")
    with pytest.raises(SetRefused, match="does not exist"):
        evaluations.start(tmp_path / "nowhere")
    for name in ("../sets/town", "notes.txt", str(bad), ".", ""):
        with pytest.raises(NoSuchSet, match=r"choose one of: bad, own\.jsonl, town, feedback"):
            evaluations.start(name)
    assert evaluations.listed() == []


def test_an_error_on_the_way_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any) -> Any:
        raise StoreLocked("the index is\nin use")

    evaluations = make()
    monkeypatch.setattr("ui.server.evaluations.open_corpus", locked)
    found = over(evaluations, evaluations.start("town").id)
    assert (found.state, found.error) == ("failed", "the index is in use")
    assert evaluations.listed() == [found]
    monkeypatch.undo()
    assert over(evaluations, evaluations.start("town").id).state == "finished"


def test_a_damaged_run_is_listed_and_hides_no_other(make: Make, settings: Settings) -> None:
    evaluations = make()
    done = over(evaluations, evaluations.start("own.jsonl").id)
    (settings.home / "runs" / "torn").mkdir()
    (settings.home / "runs" / "torn" / "run.json").write_text("{")
    found = {each.id: each for each in evaluations.listed()}
    assert (found["torn"].state, found[done.id].state) == ("failed", "finished")
    assert "damaged" in found["torn"].error


# --- stopping, and going on


def test_one_that_was_stopped_goes_on_where_it_was(make: Make) -> None:
    llm = HeldLLM()
    evaluations = make(llm)
    stopped = stopped_in_first(evaluations, llm)
    assert (stopped.state, stopped.done, stopped.questions) == ("unfinished", 1, 3)
    assert stopped.figures == {}
    before = len(llm.asked)
    again = evaluations.start("town")
    assert again.id == stopped.id
    assert over(evaluations, again.id).state == "finished"
    assert len(llm.asked) - before == 2
    assert [each["id"] for each in evaluations.read(again.id).records] == ["q1", "q2", "q3"]


def test_one_that_a_restart_cut_off_goes_on_and_another_one_does_not(make: Make, settings: Settings) -> None:
    llm = HeldLLM()
    evaluations = make(llm)
    cut = evaluations.start("town")
    assert llm.begun.acquire(timeout=60)
    llm.go_on.release()
    assert llm.begun.acquire(timeout=60)
    closing = threading.Thread(target=evaluations.close)
    closing.start()
    llm.go_on.release(20)
    closing.join(60)
    after = make()
    (found,) = after.listed()
    assert (found.id, found.state, found.done, found.questions) == (cut.id, "unfinished", 1, 3)
    (settings.home / "sets" / "town" / "qa.jsonl").write_text(lines(*QUESTIONS[:2]))
    changed = over(after, after.start("town").id)
    assert (changed.id == cut.id, changed.done) == (False, 2)
    (settings.home / "sets" / "town" / "qa.jsonl").write_text(lines(*QUESTIONS))
    assert over(after, after.start("town").id).id == cut.id


def test_one_at_a_time_in_a_process(make: Make) -> None:
    llm, floor = HeldLLM(), Floor()
    one, other = make(llm, floor=floor), make(floor=floor)
    begun = one.start("town")
    with pytest.raises(EvaluationConflict, match="wait until it is over, or stop it"):
        other.start("own.jsonl")
    assert other.get(begun.id).state == "running"
    other.close()  # a collection that is closed leaves what another one measures alone
    assert one.get(begun.id).state == "running"
    one.stop(begun.id)
    llm.go_on.release(20)
    assert over(one, begun.id).state == "unfinished"
    with pytest.raises(EvaluationConflict, match="is unfinished; only one that runs"):
        one.stop(begun.id)


# --- its turn


def test_people_come_first_while_it_goes_on(make: Make) -> None:
    """The evaluation has asked once; a person's question then comes before its next one."""
    llm, turns = HeldLLM(), Turns(8)
    evaluations = make(llm, turns)
    begun = evaluations.start("town")
    assert llm.begun.acquire(timeout=60)
    with turns.turn("ana") as turn:
        assert turn.ahead == 1
        llm.go_on.release()
        while turn.wait(1, 60):
            pass
        until(lambda: evaluations.get(begun.id).done == 1)
        assert not llm.begun.acquire(timeout=0.2)  # it waits while ana's answer is written
    llm.go_on.release(20)
    assert over(evaluations, begun.id).state == "finished"


def test_a_full_queue_fails_no_question(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "FULL", 0.01)
    turns, refused = Turns(0), threading.Event()
    join = turns._join

    def joined(client: str) -> Any:
        try:
            return join(client)
        except Busy:
            refused.set()
            raise

    monkeypatch.setattr(turns, "_join", joined)
    evaluations = make(turns=turns)
    with turns.turn("ana"):
        begun = evaluations.start("town")
        assert refused.wait(60)
    found = over(evaluations, begun.id)
    assert (found.state, found.failed) == ("finished", 0)


# --- over HTTP


class As:
    """Lets everybody in, in the place of the sign-in, as far as their role reaches."""

    def __init__(self, app: ASGIApp, role: Any) -> None:
        self.app, self.role = app, role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert allowed(self.role, scope["method"], scope["path"]), "refused by ui.server.access"
            scope[IDENTITY] = Identity("ana", self.role)
        await self.app(scope, receive, send)


def api_of(evaluations: Evaluations, role: str = "editor", host: str = "127.0.0.1") -> TestClient:
    app = FastAPI()
    app.add_middleware(As, role=role)
    tell_problems(app)
    app.include_router(router(evaluations))
    return TestClient(app, client=(host, 50000))


def problem(answer: Any, status: int, kind: str) -> str:
    assert (answer.status_code, answer.json()["kind"]) == (status, kind), answer.text
    error: str = answer.json()["error"]
    return error


def test_an_evaluation_over_http(make: Make) -> None:
    evaluations = make()
    api = api_of(evaluations)
    assert api.get(AT).json() == {"evaluations": []}
    named = [{"name": "own.jsonl", "questions": 1}, {"name": "town", "questions": 3}]
    assert api.get(f"{AT}/sets").json() == {"sets": named}
    answer = api.post(AT, json={"set": "town", "limit": 2})
    assert answer.status_code == 202
    begun = answer.json()
    assert (begun["state"], begun["questions"], begun["who"], begun["figures"]) == ("running", 2, "ana", {})
    events = api.get(f"{AT}/{begun['id']}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    kinds = re.findall(r"^event: (\w+)$", events.text, re.MULTILINE)
    assert kinds[-1] == "end"
    assert set(kinds[:-1]) <= {"progress"}
    last = json.loads(events.text.strip().rpartition("data: ")[2])
    assert last == api.get(f"{AT}/{begun['id']}").json() == api.get(AT).json()["evaluations"][0]
    assert (last["state"], last["done"]) == ("finished", 2)
    assert last["figures"]["correctness"]["value"] == 1
    assert models.Evaluation(**last).model_dump() == last
    problem(api.post(f"{AT}/{begun['id']}/stop"), 409, "EvaluationConflict")


def test_what_goes_on_is_stopped_over_http(make: Make) -> None:
    llm = HeldLLM()
    evaluations = make(llm)
    api = api_of(evaluations)
    begun = api.post(AT, json={"set": "town"}).json()
    problem(api.post(AT, json={"set": "town"}), 409, "EvaluationConflict")
    assert api.post(f"{AT}/{begun['id']}/stop").status_code == 202
    llm.go_on.release(20)
    assert over(evaluations, begun["id"]).state == "unfinished"


def test_names_lead_nowhere_else(make: Make, settings: Settings) -> None:
    evaluations = make()
    api = api_of(evaluations)
    outside = settings.home.parent / "outside"
    Run.begin(outside, "answers", made_with(settings, dataset="x"))
    for id_ in ("unknown", "..%2F..%2Foutside", "%2e%2e", str(outside).replace("/", "%2F")):
        for path in (f"{AT}/{id_}", f"{AT}/{id_}/events", f"{AT}/{id_}/report"):
            assert api.get(path).status_code == 404
    problem(api.get(f"{AT}/unknown/report"), 404, "NoSuchEvaluation")
    problem(api.post(AT, json={"set": "../../outside"}), 404, "NoSuchSet")
    for body in ({}, {"set": "town", "path": "/x"}, {"set": "town", "limit": 0}, {"set": "town", "name": "x"}):
        assert api.post(AT, json=body).status_code == 422


def test_paths_are_taken_from_this_machine_alone(
    make: Make, open_rag: OpenRag, tmp_path: Path, settings: Settings
) -> None:
    elsewhere = a_set(tmp_path / "elsewhere")
    evaluations = make()
    order = {"path": str(elsewhere)}
    problem(api_of(evaluations, host="192.0.2.7").post(AT, json=order), 403, "NotHere")
    for path in ("elsewhere", "/\x00", "/" + "x" * 300):
        problem(api_of(evaluations).post(AT, json={"path": path}), 422, "SetRefused")
    for changes in ({"auth": True}, {"host": "0.0.0.0"}):
        rag = Rag(evaluations.rag.settings.model_copy(update=changes), evaluations.rag.embedder, evaluations.rag.store)
        problem(api_of(Evaluations(rag, Turns(8))).post(AT, json=order), 403, "NotHere")
    answer = api_of(evaluations, host="::1").post(AT, json=order)
    assert answer.status_code == 202
    assert over(evaluations, answer.json()["id"]).set == str(elsewhere)


def test_readers_look_on(make: Make, settings: Settings) -> None:
    evaluations = make()
    settings.home.joinpath("feedback.jsonl").write_text(lines(verdict()))
    town = over(evaluations, evaluations.start("town").id)
    said = over(evaluations, evaluations.start("feedback").id)
    reader, editor = api_of(evaluations, "reader"), api_of(evaluations)
    for path in (AT, f"{AT}/sets", f"{AT}/agreement", f"{AT}/{said.id}", f"{AT}/{town.id}/report"):
        assert reader.get(path).status_code == 200
    problem(reader.get(f"{AT}/{said.id}/report"), 403, "ForEditors")
    problem(reader.get(f"{AT}/{town.id}/report", params={"against": said.id}), 403, "ForEditors")
    assert editor.get(f"{AT}/{said.id}/report").status_code == 200
    for method, path in (("POST", AT), ("POST", f"{AT}/{town.id}/stop"), ("DELETE", f"{AT}/{town.id}")):
        assert not allowed("reader", method, path)


def test_reports_of_one_and_of_two(make: Make, settings: Settings) -> None:
    llm = HeldLLM()
    evaluations = make(llm)
    llm.go_on.release(6)
    old, new = (over(evaluations, evaluations.start("town").id) for _ in range(2))
    api = api_of(evaluations)
    page = api.get(f"{AT}/{new.id}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "What costs the flat a month?" in page.text
    assert new.id in page.text
    assert not re.search(rf"{re.escape(old.id)}(?![-\d])", page.text)
    assert page.headers["content-security-policy"] == policy()
    (script,) = re.findall(r"script-src ('sha256-[^']+')", policy())
    assert f"script-src {script}" in page.text.replace("&#39;", "'")  # the page's own policy lets the same script run
    compared = api.get(f"{AT}/{new.id}/report", params={"against": old.id}).text
    assert f"minus {old.id}" in compared
    assert "Side by side" in compared
    problem(api.get(f"{AT}/{new.id}/report", params={"against": "unknown"}), 404, "NoSuchEvaluation")
    run = Run.begin(settings.home / "runs" / "searched", "retrieval", made_with(settings, dataset="town"))
    problem(api.get(f"{AT}/searched/report"), 409, "NotFinished")
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    main = {"system": "bm25", "metric": "ndcg@10"}
    run.finish({"dataset": "town", "n": 0, "failed": 0, "main": main, "systems": {"bm25": {"ndcg@10": figure}}})
    assert api.get(f"{AT}/searched").json()["figures"] == {"ndcg@10": figure}
    error = problem(api.get(f"{AT}/searched/report", params={"against": new.id}), 422, "NotComparable")
    assert "measure different things" in error


def test_the_examples_are_true_to_their_shapes() -> None:
    for example in (models.EVALUATION, models.RUNNING):
        assert models.Evaluation(**example).model_dump() == example
    assert models.Agreement(**models.AGREEMENT).model_dump() == models.AGREEMENT


# --- how far to trust


def test_the_bundled_figures_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    table = text[text.index("balanced     F1 unsup.") : text.index("the mean counts a set")]
    row = r"^(?P<name>[a-z][\w-]+(?: \(grounded\))?) +(?P<n>\d*) +(?P<figures>(?:\.\d{3} \.\d\d-\.\d\d\s+){4})"
    told = [
        (each["name"], int(each["n"] or 0), re.findall(r"\.\d+", each["figures"]))
        for each in re.finditer(row, table, re.MULTILINE)
    ]
    mine = [
        (
            row.name,
            row.claims or 0,
            [
                f"{value:.{digits}f}"[1:]
                for metric in METRICS
                for value, digits in zip(row.figures[metric], (3, 2, 2), strict=True)
            ],
        )
        for row in BUNDLED
    ]
    assert len(told) == len(BUNDLED)
    assert mine == told


def a_run_over_claims(settings: Settings, checker: str) -> None:
    run = Run.begin(
        settings.home / "runs" / "claims", "faithfulness", made_with(settings, dataset="x", checkers={"x": checker})
    )
    metrics = {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    row = {"n": 0, "metrics": metrics, "baselines": {}}
    main = {"system": "checker", "metric": "correct"}
    run.finish({"dataset": "x", "n": 0, "failed": 0, "main": main, "sets": {"x": row}, "mean": {}, "mean_of": ["x"]})


def test_what_was_measured_here_of_the_checker_in_use_counts_more(make: Make, settings: Settings) -> None:
    evaluations = make()
    assert trust(evaluations) == Trust(MADE, "", BUNDLED)
    a_run_over_claims(settings, "some other checker")
    assert trust(evaluations).source == MADE
    a_run = settings.home / "runs" / "claims" / "run.json"
    a_run.write_text(a_run.read_text().replace("some other checker", evaluations.rag.checker.id))
    found = trust(evaluations)
    assert (found.source, found.run) == (HERE, "claims")
    assert found.rows == (("x", 0, {"auroc": Figure(0.8, 0.7, 0.9)}),)
    assert api_of(evaluations, "reader").get(f"{AT}/agreement").json()["evaluation"] == "claims"
    assert evaluations.get("claims").figures == {"auroc": Figure(0.8, 0.7, 0.9)}


def test_a_checker_of_ones_own_is_not_told_to_be_the_bundled_one(make: Make, tmp_path: Path) -> None:
    rag = make().rag
    other = Rag(rag.settings.model_copy(update={"checker_model": str(tmp_path)}), rag.embedder, rag.store)
    assert trust(Evaluations(other, Turns(8))) == Trust(NOBODY, "", ())


# --- on the page


def shown(**changes: Any) -> Evaluation:
    fields = {
        "id": "town-answers-1",
        "kind": "answers",
        "set": "town",
        "state": "finished",
        "who": "",
        "started": "2027-06-01T09:30:00+00:00",
        "changed": "2027-06-01T09:52:10.000+00:00",
        "questions": 3,
        "done": 3,
        "failed": 0,
        "figures": {"correctness": Figure(0.5, 0.25, 0.75)},
    }
    return Evaluation(**{**fields, **changes})


def test_a_row_has_its_report_and_a_way_to_what_its_figures_are_worth() -> None:
    told = unescape(quality.table([shown()], sets=True))
    assert 'href="api/v1/evaluations/town-answers-1/report"' in told
    assert 'href="#fn-agreement"' in told
    assert "0.50 [0.25, 0.75]" in told
    assert 'id="fn-agreement"' in quality.disclosure(Trust(MADE, "", BUNDLED))


def test_names_are_shown_and_never_run() -> None:
    nasty = shown(id=NASTY, set=NASTY, state="running", stage=NASTY, error=NASTY, kind=NASTY)
    failed = shown(id=NASTY, state="failed", error=NASTY)
    for told in (
        quality.table([nasty, failed], sets=True),
        quality.going_on([nasty]),
        quality.going_on([failed]),
        quality.disclosure(Trust(NASTY, NASTY, (BUNDLED[0]._replace(name=NASTY),))),
    ):
        assert "script" in told
        assert "<script" not in told


def test_an_empty_page_says_what_to_do_first() -> None:
    assert "Like or correct some answers" in quality.table([], sets=False)
    assert "press Start" in quality.table([], sets=True)


def test_what_goes_on_is_told_with_what_is_left() -> None:
    told = quality.going_on([shown(state="running", done=1, stage="answering", eta=180.0, failed=1)])
    assert "1 of 3 questions" in told
    assert "answering, about 3 min left, 1 question failed" in told
    assert quality.going_on([shown()]) == ""


def test_the_links_are_those_of_the_chosen_runs(make: Make) -> None:
    evaluations = make()
    one, two = (over(evaluations, evaluations.start("own.jsonl").id) for _ in range(2))
    page = quality._Page(evaluations)
    assert page.linked([]) == page.linked(["gone"]) == ""
    assert "against" not in page.linked([one.id])
    href = f'href="api/v1/evaluations/{two.id}/report?against={one.id}"'
    assert href in unescape(page.linked([one.id, two.id]))
    assert href in unescape(page.linked([two.id, one.id]))  # the older one is what the newer one is compared with


def at_page(role: str = "editor", host: str = "127.0.0.1") -> Any:
    """What Gradio tells of somebody at the page."""
    scope = {IDENTITY: Identity("ana", role)}  # type: ignore[arg-type]
    return SimpleNamespace(request=SimpleNamespace(scope=scope, client=SimpleNamespace(host=host)))


def test_the_page_starts_shows_and_stops(make: Make) -> None:
    llm = HeldLLM()
    evaluations = make(llm)
    page = quality._Page(evaluations)
    nothing: quality.Seen = ((), ())
    _, runs, starting, sets, _, known = page.seen(at_page(), nothing, None)
    assert "press Start" in runs
    assert starting["visible"]
    assert (sets["value"], [name for _, name in sets["choices"]]) == ("own.jsonl", ["own.jsonl", "town"])
    live, *_ = page.started(at_page(), known, "town", "", 2)
    assert "0 of 2 questions" in live
    llm.go_on.release(20)
    (begun,) = evaluations.listed()
    over(evaluations, begun.id)
    live, runs, _, sets, chosen, now = page.seen(at_page("reader"), known, "town")
    assert (live, chosen["choices"]) == ("", [(begun.id, begun.id)])
    assert sets == gr.skip()  # what somebody is choosing from stays as it is
    assert page.seen(at_page(), now, "town")[4] == gr.skip()
    assert not page.seen(at_page("reader"), now, "town")[2]["visible"]
    for who, set_, path in (
        (at_page("reader"), "town", ""),
        (at_page(host="192.0.2.7"), "town", "/tmp"),
        (at_page(), None, ""),
    ):
        with pytest.raises(gr.Error):
            page.started(who, now, set_, path, 2)
    with pytest.raises(gr.Error):
        page.stopped(at_page("reader"), now, "town")
    with gr.Blocks(analytics_enabled=False):
        refresh, inputs, outputs = quality.build(evaluations)
    assert len(refresh(at_page(), now, "town")) == len(outputs)
    assert len(inputs) == 2
