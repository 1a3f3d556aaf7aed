"""From a question to a checked answer, on the embedded store with a parrot for a language model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from threading import Thread

import pytest

from ingest.parse.document import Context
from ingest.parse.table import parse
from rag.checking import MOST_CITATIONS
from rag.errors import CollectionMissing, LLMError, QuestionError
from rag.filter import Filter
from rag.prompt import ABSTENTION
from rag.store.opening import open_store
from rag.store.protocol import DENSE
from rag.types import Answer, Checked, Citation, Event, Finished, Message, Piece, Retrieved
from tests.conftest import OpenRag, ParrotLLM

DOCUMENTS = {
    "whales.txt": "Whales are mammals that breathe air. A blue whale eats 4 tonnes of krill a day.",
    "ships.txt": "Iron ships float because they push water aside. The Titanic sank in April 1912.",
    "apples.txt": "Gravity pulls every apple toward the ground.",
}
QUESTION = "What do whales breathe?"
BOTH = "Blue whale krill, Titanic sank?"
UNRELATED = "zyzzyva quokka"
KRILL, MAMMALS = "A blue whale eats 4 tonnes of krill a day.", "Whales are mammals that breathe air."
TITANIC = "The Titanic sank in April 1912."
INVENTED = "Penguins juggle flaming torches nightly."


def citations(answer: Answer) -> list[Citation]:
    return [citation for sentence in answer.sentences for citation in sentence.citations]


def kinds(events: Sequence[Event]) -> str:
    return "".join(type(event).__name__[0] for event in events)


def test_passages_then_pieces_then_the_answer(open_rag: OpenRag) -> None:
    llm = ParrotLLM(f"{MAMMALS} {KRILL}")
    events = list(open_rag(DOCUMENTS, llm).stream(QUESTION))
    retrieved, *between, finished = events
    assert isinstance(retrieved, Retrieved)
    assert isinstance(finished, Finished)
    assert "".join(piece.text for piece in between if isinstance(piece, Piece)).strip() == llm.says
    checked = [event for event in between if isinstance(event, Checked)]
    assert [event.index for event in checked] == [0, 1]
    assert tuple(event.sentence for event in checked) == finished.answer.sentences
    answer = finished.answer
    assert (answer.question, answer.text, answer.abstained, answer.model) == (QUESTION, llm.says, False, "parrot")
    assert answer.hits == retrieved.hits
    assert [sentence.text for sentence in answer.sentences] == [MAMMALS, KRILL]


def test_answer_is_what_the_stream_ends_with(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    *_, finished = rag.stream(QUESTION)
    answer = rag.answer(QUESTION)
    assert isinstance(finished, Finished)
    assert (answer.text, answer.sentences, answer.hits) == (
        finished.answer.text,
        finished.answer.sentences,
        finished.answer.hits,
    )


def test_a_sentence_is_footnoted_where_it_stands(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(f"{TITANIC} {KRILL}"), min_relevance=0)
    answer = rag.answer(BOTH)
    assert [citation.quote for citation in citations(answer)] == [TITANIC, KRILL]
    assert [citation.number for citation in citations(answer)] == [1, 2]
    for citation in citations(answer):
        text = parse(Path(citation.doc), Context(Path())).text
        assert text[citation.start : citation.end] == citation.quote
        assert Path(citation.doc).name in DOCUMENTS
    assert all(sentence.supported and sentence.support > 0.9 for sentence in answer.sentences)


def test_quotes_are_the_documents_own_text_also_behind_headings_and_in_later_passages(open_rag: OpenRag) -> None:
    body = "\n\n".join(
        f"## Part {i}\n\nChapter {i} tells of number{i} and color{i}. It ends at stop{i}." for i in range(9)
    )
    rag = open_rag(
        {"book.md": f"# Book\n\n{body}\n"},
        ParrotLLM("Chapter 7 tells of number7 and color7. It ends at stop3."),
        chunk_tokens=24,
        chunk_overlap=4,
        min_relevance=-1,
        passages=20,
    )
    assert rag.store.count() > 3
    found = citations(rag.answer("What do number7 and stop3 say?"))
    text = parse(Path(found[0].doc), Context(Path())).text
    assert {citation.quote for citation in found} >= {"Chapter 7 tells of number7 and color7.", "It ends at stop3."}
    assert all(text[citation.start : citation.end] == citation.quote for citation in found)
    assert "Part 7" in found[0].headings


def test_numbers_go_by_first_use_and_a_place_keeps_its_own(open_rag: OpenRag) -> None:
    says = f"{KRILL} {TITANIC} So, a blue whale eats 4 tonnes of krill a day. {MAMMALS}"
    rag = open_rag(DOCUMENTS, ParrotLLM(says), min_relevance=0)
    answer = rag.answer(BOTH)
    numbers = [[citation.number for citation in sentence.citations] for sentence in answer.sentences]
    assert numbers == [[1], [2], [1], [3]]
    first, again = answer.sentences[0].citations[0], answer.sentences[2].citations[0]
    assert first == again


def test_a_sentence_that_the_documents_do_not_hold_gets_no_footnote(open_rag: OpenRag) -> None:
    answer = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS} {INVENTED}")).answer(QUESTION)
    right, invented = answer.sentences
    assert right.supported
    assert not invented.supported
    assert invented.citations == ()
    assert invented.support < 0.6 <= right.support
    assert not answer.abstained


def test_a_wrong_number_loses_its_footnote(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(TITANIC.replace("1912", "1915")))
    (sentence,) = rag.answer("When was it that the Titanic sank?").sentences
    assert not sentence.supported


def test_how_much_support_a_footnote_needs_is_a_setting(open_rag: OpenRag) -> None:
    strict = open_rag(DOCUMENTS, ParrotLLM("Whales are large mammals that breathe."), min_support=0.95)
    assert not strict.answer(QUESTION).sentences[0].supported
    strict.close()
    mild = open_rag(DOCUMENTS, ParrotLLM("Whales are large mammals that breathe."), min_support=0.3)
    assert mild.answer(QUESTION).sentences[0].supported


def test_passages_that_say_the_same_are_cited_together_but_not_without_end(open_rag: OpenRag) -> None:
    rag = open_rag({f"{name}.txt": f"{MAMMALS} {name}" for name in "abcde"}, ParrotLLM(MAMMALS), passages=5)
    found = citations(rag.answer(QUESTION))
    assert [citation.number for citation in found] == [1, 2, 3][:MOST_CITATIONS]
    assert len({citation.doc for citation in found}) == MOST_CITATIONS


def test_a_copy_takes_no_other_passages_place(open_rag: OpenRag) -> None:
    copies = {f"{name}.txt": MAMMALS for name in "abcdef"} | {"g.txt": MAMMALS.upper().replace(" ", "  ")}
    rag = open_rag(copies | {"krill.txt": KRILL}, ParrotLLM(MAMMALS), passages=2, min_relevance=-1)
    answer = rag.answer(QUESTION)
    assert [" ".join(hit.chunk.text.lower().split()) for hit in answer.hits].count(MAMMALS.lower()) == 1
    assert KRILL in [hit.chunk.text for hit in answer.hits]
    assert len(rag.search(QUESTION, 7)) == 7, "a search shows all copies"


def test_a_place_in_two_overlapping_passages_is_cited_once(open_rag: OpenRag) -> None:
    shared = "Gamma nine ten eleven twelve."
    text = f"Alpha one two three four. Beta five six seven eight. {shared} Delta red green blue white. Omega."
    rag = open_rag({"a.txt": text}, ParrotLLM(shared), chunk_tokens=16, chunk_overlap=8, min_relevance=-1)
    assert [chunk.text.count(shared) for chunk in rag.store.fetch(sorted(rag.store.ids()))] == [1, 1]
    assert [citation.quote for citation in citations(rag.answer("gamma nine ten?"))] == [shared]


def test_the_best_place_comes_first_and_is_not_lost_where_passages_overlap(open_rag: OpenRag) -> None:
    shared = "Gamma nine ten eleven twelve."
    text = f"Alpha one two three four. Beta five six seven eight. {shared} Delta red green blue white. Omega."
    alike = {f"{name}.txt": f"{shared} Alpha one two. {name.upper()}!" for name in "bcd"}
    rag = open_rag({"a.txt": text, **alike}, ParrotLLM(shared), chunk_tokens=16, chunk_overlap=8, passages=9)
    answer = rag.answer("alpha one two three four beta five six seven eight gamma nine ten eleven")
    first, *others, last = [Path(hit.chunk.doc).name for hit in answer.hits]
    assert (first, sorted(others), last) == ("a.txt", ["b.txt", "c.txt", "d.txt"], "a.txt")
    cited = [Path(citation.doc).name for citation in citations(answer)]
    assert cited == [first, *others[: MOST_CITATIONS - 1]]


def test_only_the_passages_that_were_shown_to_the_model_are_cited(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS} {TITANIC}"), passages=1)
    answer = rag.answer(QUESTION)
    assert len(answer.hits) == 1
    assert [sentence.supported for sentence in answer.sentences] == [True, False]


def test_a_question_that_nothing_is_near_to_is_declined_without_the_model(open_rag: OpenRag) -> None:
    llm = ParrotLLM(INVENTED)
    events = list(open_rag(DOCUMENTS, llm).stream(UNRELATED))
    assert kinds(events) == "RPF"
    assert events[1] == Piece(ABSTENTION)
    answer = events[-1].answer if isinstance(events[-1], Finished) else None
    assert answer
    assert llm.asked == []
    assert (answer.text, answer.abstained, answer.model) == (ABSTENTION, True, "")
    assert citations(answer) == []
    assert len(answer.hits) == 3
    assert (answer.timings.first_token, answer.timings.generate, answer.timings.verify) == (None, None, None)


def test_a_collection_without_documents_declines(open_rag: OpenRag) -> None:
    llm = ParrotLLM(INVENTED)
    answer = open_rag({}, llm).answer(QUESTION)
    assert (answer.abstained, answer.hits, llm.asked) == (True, (), [])


def test_only_documents_that_the_filter_matches_are_used(open_rag: OpenRag) -> None:
    llm = ParrotLLM()
    rag = open_rag(DOCUMENTS, llm)
    answer = rag.answer("When did the Titanic sink, and what do whales eat?", within=Filter(documents=("ships.txt",)))
    assert {Path(hit.chunk.doc).name for hit in answer.hits} == {"ships.txt"}
    llm.asked.clear()
    declined = rag.answer(QUESTION, within=Filter(types=("pdf",)))
    assert (declined.abstained, declined.hits, llm.asked) == (True, (), [])


def test_how_near_is_near_enough_is_a_setting(open_rag: OpenRag) -> None:
    llm = ParrotLLM(MAMMALS)
    rag = open_rag(DOCUMENTS, llm)
    cosine = rag.search(QUESTION, 1)[0].score_of(DENSE)
    assert cosine is not None
    rag.close()
    for limit, called in ((cosine + 0.01, 0), (cosine - 0.01, 1)):
        changed = open_rag(DOCUMENTS, llm, min_relevance=limit)
        assert changed.answer(QUESTION).abstained is not bool(called)
        assert len(llm.asked) == called
        changed.close()


@pytest.mark.parametrize(
    "says",
    [
        ABSTENTION,
        ABSTENTION.removesuffix("."),
        f" {ABSTENTION} Sorry.",
        "I'm sorry, but the documents do not mention what whales breathe. Please rephrase your question.",
        " ",
        "\n\n",
    ],
)
def test_a_model_that_declines_or_says_nothing_is_an_abstention(open_rag: OpenRag, says: str) -> None:
    answer = open_rag(DOCUMENTS, ParrotLLM(says)).answer(QUESTION)
    assert (answer.abstained, answer.text, answer.model) == (True, ABSTENTION, "parrot")
    assert citations(answer) == []
    assert answer.hits


def test_a_model_that_goes_round_in_circles_is_stopped(open_rag: OpenRag) -> None:
    llm = ParrotLLM(" ".join([MAMMALS, TITANIC] * 200))
    rag = open_rag(DOCUMENTS, llm)
    *pieces, finished = rag.stream(QUESTION)
    assert isinstance(finished, Finished)
    assert [sentence.text for sentence in finished.answer.sentences] == [MAMMALS, TITANIC]
    assert finished.answer.text == f"{MAMMALS} {TITANIC}"
    assert len(pieces) < 40
    assert llm.stopped


def test_a_model_that_goes_round_in_circles_inside_a_sentence_is_stopped_too(open_rag: OpenRag) -> None:
    llm = ParrotLLM(f"{MAMMALS} And the ship goes on and on, " + "and the ship goes on and on, " * 200)
    answer = open_rag(DOCUMENTS, llm).answer(QUESTION)
    assert answer.text.startswith(MAMMALS)
    assert answer.text.count("ship") < 3
    assert llm.stopped


def test_a_last_sentence_that_repeats_an_earlier_one_is_dropped(open_rag: OpenRag) -> None:
    answer = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS} {TITANIC} {MAMMALS.upper()}")).answer(QUESTION)
    assert [sentence.text for sentence in answer.sentences] == [MAMMALS, TITANIC]


def test_closing_the_stream_stops_the_model(open_rag: OpenRag) -> None:
    llm = ParrotLLM("word " * 1000)
    stream = open_rag(DOCUMENTS, llm).stream(QUESTION)
    assert isinstance(next(stream), Retrieved)
    assert isinstance(next(stream), Piece)
    assert not llm.stopped
    assert isinstance(stream, Generator)
    stream.close()
    assert llm.stopped


def test_an_error_of_the_model_is_passed_on(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(fails="the server is on fire"))
    with pytest.raises(LLMError, match="the server is on fire"):
        rag.answer(QUESTION)
    assert rag.search(QUESTION, 1)


def test_the_model_is_shown_the_passages_the_history_and_the_question(open_rag: OpenRag) -> None:
    llm = ParrotLLM(MAMMALS)
    history = [Message("user", "Are there ships?"), Message("assistant", "Yes, iron ones.")]
    open_rag(DOCUMENTS, llm).answer(QUESTION, history)
    ((system, *turns, asked),) = llm.asked
    assert system.role == "system"
    assert turns == history
    assert asked.role == "user"
    assert DOCUMENTS["whales.txt"] in asked.content
    assert asked.content.endswith(f"Question: {QUESTION}")


WHALES = [Message("user", "What do blue whales eat?"), Message("assistant", "A blue whale eats krill.")]


def test_a_follow_up_is_searched_for_with_what_was_said_before(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(KRILL))
    bare, (retrieved, *_, finished) = rag.answer("And how much?"), rag.stream("And how much?", WHALES)
    assert bare.abstained
    assert bare.searched == ""
    assert isinstance(retrieved, Retrieved)
    assert isinstance(finished, Finished)
    answer = finished.answer
    assert (answer.question, answer.searched) == ("And how much?", retrieved.searched)
    assert answer.searched.startswith("And how much? (")
    assert "whales" in answer.searched
    assert answer.hits[0].chunk.text == DOCUMENTS["whales.txt"]
    assert citations(answer)[0].quote == KRILL


def test_the_model_is_asked_what_the_person_asked(open_rag: OpenRag) -> None:
    llm = ParrotLLM(KRILL)
    open_rag(DOCUMENTS, llm).answer("And how much?", WHALES)
    ((_, *turns, asked),) = llm.asked
    assert turns == WHALES
    assert asked.content.endswith("Question: And how much?")


def test_a_question_that_stands_alone_finds_the_same_in_a_conversation(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    question = "When was it that the Titanic sank?"
    alone, later = rag.answer(question), rag.answer(question, WHALES)
    assert later.searched == ""
    assert later.hits == alone.hits


def test_follow_ups_can_be_switched_off(open_rag: OpenRag) -> None:
    answer = open_rag(DOCUMENTS, follow_ups="off").answer("And how much?", WHALES)
    assert (answer.searched, answer.abstained) == ("", True)


def test_a_bigger_model_rewrites_before_it_answers(open_rag: OpenRag) -> None:
    llm = ParrotLLM("How much does a blue whale eat?")
    answer = open_rag(DOCUMENTS, llm, follow_ups="llm").answer("And how much?", WHALES)
    assert answer.searched == llm.says
    rewriting, answering = llm.asked
    assert rewriting[-1].content.endswith("Last question: And how much?")
    assert answering[-1].content.endswith("Question: And how much?")


def test_a_follow_up_that_is_declined_tells_what_was_searched_for(open_rag: OpenRag) -> None:
    history = [Message("user", "zyzzyva?"), Message("assistant", ABSTENTION)]
    answer = open_rag(DOCUMENTS, min_relevance=0.9).answer("And quokka?", history)
    assert (answer.abstained, answer.searched) == (True, "And quokka? (zyzzyva)")


def test_what_stands_alone_but_is_too_long_is_not_searched_for(open_rag: OpenRag) -> None:
    answer = open_rag(DOCUMENTS, max_question_chars=20).answer("And how much?", WHALES)
    assert answer.searched == ""


@pytest.mark.parametrize(("model", "told"), [("bundled", False), ("someone/bigger", True)])
def test_only_a_model_that_can_decline_is_told_how_to(open_rag: OpenRag, model: str, told: bool) -> None:
    llm = ParrotLLM(MAMMALS)
    open_rag(DOCUMENTS, llm, llm_model=model).answer(QUESTION)
    assert (ABSTENTION in llm.asked[0][0].content) is told


def test_the_same_question_gets_the_same_answer(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(f"{KRILL} {INVENTED} {TITANIC}"))
    first = rag.answer(QUESTION)
    for _ in range(3):
        again = rag.answer(QUESTION)
        assert (again.sentences, again.hits) == (first.sentences, first.hits)


def test_times_are_told_for_what_ran(open_rag: OpenRag) -> None:
    times = open_rag(DOCUMENTS).answer(QUESTION).timings
    parts = (times.retrieve, times.first_token, times.generate, times.verify)
    assert all(part is not None and part >= 0 for part in parts)
    assert times.first_token is not None
    assert times.generate is not None
    assert times.first_token <= times.generate <= times.total


@pytest.mark.parametrize("question", ["", "   \n"])
def test_an_empty_question_is_refused_before_anything_is_done(open_rag: OpenRag, question: str) -> None:
    llm = ParrotLLM()
    with pytest.raises(QuestionError, match="empty"):
        next(open_rag(DOCUMENTS, llm).stream(question))
    assert llm.asked == []


def test_a_question_of_100000_characters_is_refused_in_one_line(open_rag: OpenRag) -> None:
    with pytest.raises(QuestionError) as error:
        open_rag(DOCUMENTS).answer("why " * 25_000)
    assert "\n" not in str(error.value)


def test_questions_from_several_threads_get_their_own_answers(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    questions = [QUESTION, "When was it that the Titanic sank?", "What pulls every apple?"] * 4
    expected = {question: rag.answer(question).sentences for question in set(questions)}
    found: list[tuple[str, object]] = []
    threads = [
        Thread(target=lambda question=question: found.append((question, rag.answer(question).sentences)))
        for question in questions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(questions)
    assert all(sentences == expected[question] for question, sentences in found)


def test_leaving_the_with_block_lets_the_index_go(open_rag: OpenRag) -> None:
    with open_rag(DOCUMENTS) as rag:
        first = rag.search(QUESTION, 3)
    again = open_rag({})
    assert again.search(QUESTION, 3) == first


def test_a_collection_that_does_not_exist_is_named(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    with pytest.raises(CollectionMissing, match="'letters'"):
        open_store(rag.settings.model_copy(update={"collection": "letters"}), rag.embedder)


def test_marks_that_the_model_makes_up_do_not_pass_for_footnotes(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS[:-1]} [7]. Zebras juggle quartz [1, 2][3-5]."))
    answer = rag.answer(QUESTION)
    assert "[" not in answer.text
    assert [sentence.supported for sentence in answer.sentences] == [True, False]


def test_a_loop_that_counts_its_marks_is_cut(open_rag: OpenRag) -> None:
    loop = " ".join(f"[{n}] see the whale page" for n in range(1, 30))
    answer = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS} {loop}")).answer(QUESTION)
    assert answer.text.count("see the whale page") <= 2
