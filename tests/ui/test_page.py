"""The real page in headless Chromium, over a real server. What a person types and sees."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from rag.answer import Rag
from rag.settings import Settings
from tests.conftest import OpenRag, ParrotLLM, until
from tests.ui.person import DONE, Person, Serve

pytestmark = pytest.mark.slow

NASTY = "<script>document.title='owned'</script> ![x](http://evil.example/x.png) <img src=x onerror=alert(1)> $$x^2$$"
ZEBRAS = "Zebras juggle quartz vigorously."
LEASE = "# Lease\n\nThe rent is due monthly.\n"
POOL = "# Pool\n\nThe pool opens at nine.\n"


def test_a_question_gets_a_footnoted_answer(
    browser: Any, serve: Serve, real_settings: Settings, catalog: Catalog, tmp_path: Path
) -> None:
    """Real weights, real page: type a question, wait for the stream, see the footnote and its source."""
    lease = tmp_path / "lease.md"
    lease.write_text(
        "# Lease\n\n## Rent\n\nThe monthly rent for the flat is 900 euros, due on the third working day.\n"
    )
    with Rag.open(real_settings, create=True) as rag:
        list(Ingestion(real_settings, rag.embedder, rag.store, catalog).run([lease]))
        person = Person(browser, serve(rag, catalog))
        person.ask("How much is the monthly rent for the flat?", f"{DONE} .fn-notes")
        assert "[1]" in person.text(".fn-answer")
        assert "900" in person.text(".fn-answer")
        assert "lease.md › Lease › Rent" in person.text(".fn-notes")
        assert "lease.md › Lease › Rent" in person.text("#fn-sources")
        assert "900 euros" in person.text("#fn-sources mark")
        assert person.hosts == {"127.0.0.1"}


def test_a_question_shares_its_stream_with_nothing_that_could_close_it(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    """Gradio's client loses a question that joins the queue while the stream of another event is being closed."""
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, ParrotLLM())
    person = Person(browser, serve(rag, catalog))
    joined: list[str] = []
    person.page.on("request", lambda request: joined.append(request.url) if "queue/join" in request.url else None)
    person.page.reload()
    person.page.click("#fn-within button")
    person.choose("#fn-documents", "a.md")
    person.page.wait_for_selector("#fn-within >> text=Search in: a.md")
    assert not joined
    person.ask("when is the rent due", DONE)
    person.page.click("text=New conversation")
    person.page.wait_for_selector(".fn-question", state="detached")
    assert len(joined) == 1


def test_text_of_documents_is_shown_never_run(browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog) -> None:
    rag = open_rag({"nasty.md": f"# Rent\n\nThe rent is due monthly: `{NASTY}` and so on\n"}, ParrotLLM(says=NASTY))
    person = Person(browser, serve(rag, catalog))
    dialogs: list[str] = []
    person.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    person.ask(f"the rent is due monthly {NASTY}", DONE)
    person.page.wait_for_selector("#fn-sources .fn-source", state="attached")
    person.page.evaluate("document.querySelectorAll('#fn-sources details').forEach(d => d.open = true)")
    for selector in (".fn-question", ".fn-answer", "#fn-sources"):
        assert "<script>document.title='owned'</script>" in person.text(selector)
        assert "![x](http://evil.example/x.png)" in person.text(selector)
    assert person.page.title() == "Footnote"
    assert not person.page.query_selector_all("#fn-chat script, #fn-chat .fn-answer img, #fn-sources img, .katex")
    assert not dialogs
    assert person.hosts == {"127.0.0.1"}


def test_an_unsupported_sentence_is_marked_in_words(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag(
        {"a.md": "# Rent\n\nThe rent is due monthly.\n"}, ParrotLLM(says=f"The rent is due monthly. {ZEBRAS}")
    )
    person = Person(browser, serve(rag, catalog))
    person.ask("the rent is due monthly", f"{DONE} .fn-mark-unsupported")
    assert person.text(".fn-mark-unsupported") == "not found in your documents: some words are missing"


def test_a_sentence_is_checked_while_the_next_one_is_written(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    go_on = threading.Event()

    class HeldLLM(ParrotLLM):
        def stream(self, messages: Any) -> Any:
            yield f"The rent is due monthly. {ZEBRAS} And"
            word = 0
            while not go_on.wait(0.05):
                word += 1  # Words that repeat themselves would end the answer as a loop.
                yield " so"
                yield f" on{word}"
            yield " more."

    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, HeldLLM())
    person = Person(browser, serve(rag, catalog))
    person.choose("#fn-strictness", "Leave out what is not found")
    try:
        person.ask("the rent is due monthly", ".fn-writing .fn-leaving")
        assert person.text(".fn-writing .fn-leaving") == ZEBRAS
        assert "left out, not found in your documents: some words" in person.text(".fn-writing .fn-mark-unsupported")
        assert "[1]" in person.text(".fn-writing .fn-mark")
    finally:
        go_on.set()
    person.page.wait_for_selector(DONE)
    assert "sentences left out" in person.text(f"{DONE} summary")
    assert not person.page.is_visible(f"text={ZEBRAS}")
    person.page.click(f"{DONE} summary")
    person.page.wait_for_selector(f"text={ZEBRAS}")


def test_what_the_model_wrote_without_support_is_one_click_away(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, ParrotLLM(says=ZEBRAS))
    person = Person(browser, serve(rag, catalog))
    person.ask("the rent is due monthly", f"{DONE}.fn-abstained")
    assert "Closest passages" in person.text("#fn-sources")
    assert ZEBRAS not in person.text(DONE)
    person.page.click(".fn-dropped summary")
    person.page.wait_for_selector(f"text={ZEBRAS}")


def test_what_no_document_says_is_declined_and_an_error_is_shown(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, ParrotLLM(fails="the model is out of memory"))
    person = Person(browser, serve(rag, catalog))
    person.ask("zzzz qqqq", ".fn-abstained")
    assert "Closest passages" in person.text("#fn-sources")
    person.ask("the rent is due monthly", ".fn-problem")
    assert "the model is out of memory" in person.text(".fn-problem")
    assert person.page.input_value("#fn-question textarea") == "the rent is due monthly"


def test_a_follow_up_finds_its_subject_in_the_conversation_also_where_that_was_declined(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": "# Lease\n\nThe rent of Quarry Lane is due monthly.\n"}, min_relevance=0.5)
    person = Person(browser, serve(rag, catalog))
    person.ask("Who sold Quarry Lane and <b>why</b> in 1850?", ".fn-abstained")
    person.ask("the rent?", ".fn-searched")
    assert person.text(".fn-searched").startswith("searched for: the rent? (")
    assert "Quarry Lane" in person.text(".fn-searched")
    assert "Quarry Lane" in person.text("#fn-sources")


def test_stopping_ends_the_generation_and_says_so(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    import time

    class SlowLLM(ParrotLLM):
        def stream(self, messages: Any) -> Any:
            try:
                for number in range(20_000):
                    time.sleep(0.02)
                    yield f"word{number} "
            finally:
                self.stopped = True

    llm = SlowLLM()
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, llm)
    person = Person(browser, serve(rag, catalog))
    person.ask("the rent is due monthly", ".fn-writing")
    person.page.wait_for_function("document.querySelector('.fn-writing').innerText.includes('word5')")
    person.page.click("#fn-question button.stop-button")
    person.page.wait_for_selector(".fn-mark-unsupported")
    assert "stopped, not checked" in person.text(".fn-answer")
    until(lambda: llm.stopped)


def test_a_question_can_be_asked_of_some_documents_only(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"lease.md": "# Rent\n\nThe rent is due monthly.\n", "loan.txt": "The rent of a boat is due daily."})
    person = Person(browser, serve(rag, catalog))
    page = person.page
    assert not page.is_visible("#fn-documents")
    page.click("#fn-within button")
    page.click("#fn-documents input")
    page.fill("#fn-documents input", "loan")
    page.click("text=loan.txt")
    page.wait_for_selector("#fn-within >> text=Search in: loan.txt")
    person.ask("the rent is due monthly", f"{DONE} .fn-notes")
    assert "loan.txt" in person.text("#fn-sources")
    assert "lease.md" not in person.text("#fn-sources")
    page.fill("#fn-until input", "2001-02-03")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fn-within >> text=until 2001-02-03")
    person.ask("the rent is due monthly", ".fn-abstained")
    assert "No document matches" in person.text("#fn-sources")
    page.fill("#fn-until input", "2001-02-31")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fn-within >> text=until 2001-02-31")
    person.ask("the rent is due monthly", ".fn-problem")
    assert "2001-02-31" in person.text(".fn-problem")


def test_a_new_conversation_and_a_narrow_screen(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"})
    person = Person(browser, serve(rag, catalog), width=360)
    person.ask("the rent is due monthly", f"{DONE} .fn-notes")
    assert person.fits
    person.ask("is the rent due monthly", f"{DONE} .fn-notes >> nth=1")
    assert person.page.input_value("#fn-question textarea") == ""
    person.page.click("text=New conversation")
    person.page.wait_for_selector(".fn-answer", state="detached")
    assert "appear here" in person.text("#fn-sources")


def test_files_are_brought_in_seen_and_taken_out(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog, tmp_path: Path
) -> None:
    """Three files of different kinds become ready, or say why not; one is removed again."""
    rag = open_rag({})
    person = Person(browser, serve(rag, catalog))
    person.page.on("dialog", lambda dialog: dialog.accept())
    person.tab("Documents")
    person.page.wait_for_selector("#fn-totals >> text=There are no documents yet")
    (tmp_path / "pool.md").write_text("# Pool\n\nThe pool opens at nine.\n")
    (tmp_path / "prices.csv").write_text("what,price\nticket,7\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    names = ("pool.md", "prices.csv", "broken.pdf")
    person.page.set_input_files("#fn-files", [str(tmp_path / name) for name in names])
    person.page.wait_for_selector("#fn-documents-list .fn-failed >> text=broken.pdf")
    person.page.wait_for_selector("#fn-totals >> text=2 documents")
    assert "damaged" in person.text("#fn-documents-list .fn-failed .fn-why")
    person.page.fill("#fn-find-documents textarea", "pool")
    person.page.wait_for_selector("#fn-documents-list >> text=prices.csv", state="detached")
    person.page.click("text=Remove >> nth=0")
    person.page.wait_for_selector("#fn-totals >> text=1 document,")
    until(lambda: not list((rag.settings.home / "uploads").rglob("pool.md")))
    person.tab("Ask")
    person.ask("price of a ticket", DONE)
    assert person.hosts == {"127.0.0.1"}


def test_a_bad_answer_is_told_and_a_conversation_found_again(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": "# Rent\n\nThe rent is due monthly.\n"}, ParrotLLM("The rent is due monthly."))
    url = serve(rag, catalog)
    person = Person(browser, url)
    person.ask("when is the rent due", DONE)
    person.page.click('#fn-chat [title="dislike"], #fn-chat [aria-label="dislike"], #fn-chat [title="Dislike"]')
    person.page.click("#fn-opinion >> text=incomplete")
    person.page.fill("#fn-opinion textarea >> nth=0", "on the third working day")
    person.page.click("#fn-opinion >> text=Send")
    person.page.wait_for_selector("#fn-opinion", state="hidden")
    last = (rag.settings.home / "feedback.jsonl").read_text().splitlines()[-1]
    assert '"on the third working day"' in last
    assert '"incomplete"' in last
    again = Person(browser, url)
    again.page.click("#fn-history .toggle-button, .sidebar .toggle-button")
    again.page.click("#fn-conversations >> text=when is the rent due")
    again.page.wait_for_selector(f"{DONE} .fn-notes")
    assert "The rent is due monthly." in again.text(".fn-answer")
    again.page.click("#fn-history >> text=This conversation")
    with again.page.expect_download() as saved:
        again.page.click("#fn-export a")
    assert "[^1]" in Path(saved.value.path()).read_text()
    again.page.click("#fn-delete-conversation")
    again.page.wait_for_selector("#fn-history >> text=No conversations yet")


def test_a_mark_leads_to_the_page_with_the_quote_marked(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog, shared: Path
) -> None:
    pdf = shared / "files" / "pdf" / "embedded-link.pdf"
    found = pdf if pdf.exists() else next(iter(shared.rglob("embedded-link.pdf")), None)
    if found is None:
        pytest.skip("the PDF is not there")
    quote = "Now, what would happen if the embedded url is across two lines with broken list item group capturing?"
    rag = open_rag({}, ParrotLLM(quote))
    list(Ingestion(rag.settings, rag.embedder, rag.store, catalog).run([found]))
    person = Person(browser, serve(rag, catalog), width=1440)
    person.ask(quote, f"{DONE} .fn-mark")
    person.page.wait_for_selector("#fn-sources .fn-box", state="attached")
    picture = person.page.locator("#fn-sources .fn-page-picture")
    picture.scroll_into_view_if_needed()
    person.page.wait_for_function("document.querySelector('#fn-sources .fn-page-picture').naturalWidth > 0")
    person.page.focus(".fn-mark")
    person.page.keyboard.press("Enter")
    person.page.wait_for_selector("#fn-sources [aria-current]")
    assert person.hosts == {"127.0.0.1"}


@pytest.mark.parametrize("width", [1280, 360])
def test_the_way_through_the_sources(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog, width: int
) -> None:
    """Marks lead to the source they are of, also in an earlier answer; from there on with buttons and arrow keys."""
    rag = open_rag({"a.md": LEASE, "b.md": POOL}, ParrotLLM("The pool opens at nine. The rent is due monthly."))
    person = Person(browser, serve(rag, catalog), width=width)
    page = person.page
    person.ask("the pool opens at nine, the rent is due monthly", f"{DONE} .fn-mark")
    page.wait_for_selector("#fn-sources >> text=Source 1 of 2")
    assert "nine" in person.text("#fn-sources [aria-current] mark")
    person.ask("the rent is due monthly", f"{DONE} .fn-mark >> nth=2")
    page.wait_for_selector('#fn-sources [data-exchange="1"]')
    page.click(".fn-mark >> nth=1")
    page.wait_for_selector('#fn-sources [data-exchange="0"]')
    page.wait_for_selector("#fn-sources >> text=Source 2 of 2")
    assert "monthly" in person.text("#fn-sources [aria-current] mark")
    assert person.focused == "fn-sources"
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#fn-sources >> text=Source 1 of 2")
    assert "nine" in person.text("#fn-sources [aria-current] mark")
    page.keyboard.press("ArrowLeft")
    assert "Source 1 of 2" in person.text(".fn-at")
    page.click("[aria-label='Next source']")
    page.wait_for_selector("#fn-sources >> text=Source 2 of 2")
    page.wait_for_selector("[aria-label='Next source'][aria-disabled=true]")
    page.focus("#fn-sources")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.fn-mark')[1]")
    assert person.fits


def test_how_many_passages_are_read_is_up_to_the_person(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": LEASE, "b.md": "# Loan\n\nThe rent of a boat is due daily.\n"}, min_relevance=0)
    person = Person(browser, serve(rag, catalog))
    assert person.page.input_value("#fn-passages input") == "Find 4 passages"
    person.ask("the rent is due monthly", f"{DONE} .fn-notes")
    person.page.wait_for_selector('#fn-sources [data-exchange="0"]')
    read = person.page.text_content("#fn-sources")
    assert "a.md" in read
    assert "b.md" in read
    person.choose("#fn-passages", "Find 1 passage")
    person.ask("is the rent due monthly", f"{DONE} .fn-notes >> nth=1")
    person.page.wait_for_selector('#fn-sources [data-exchange="1"]')
    read = person.page.text_content("#fn-sources")
    assert ("a.md" in read) != ("b.md" in read)


def test_nothing_jumps_and_the_next_question_can_be_typed_at_once(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    rag = open_rag({"a.md": LEASE}, ParrotLLM(f"The rent is due monthly. {ZEBRAS}"))
    person = Person(browser, serve(rag, catalog))
    person.page.wait_for_selector(".fn-bar")
    places = """() => ["#fn-chat", "#fn-question"].map((each) => {
        const box = document.querySelector(each).getBoundingClientRect();
        return [box.top, box.height];
    })"""
    person.page.evaluate(
        f"window.seen = new Set(); window.look = setInterval(() => seen.add(JSON.stringify(({places})())), 10)"
    )
    person.ask("the rent is due monthly", f"{DONE} .fn-made")
    person.page.wait_for_selector("#fn-sources [aria-current]")
    person.page.keyboard.type("and the deposit?")
    assert person.page.input_value("#fn-question textarea") == "and the deposit?"
    assert person.page.evaluate("seen.size") == 1


def test_who_wrote_an_answer_and_how_long_it_took_stand_below_it(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog
) -> None:
    url = serve(open_rag({"a.md": LEASE}), catalog)
    person = Person(browser, url)
    person.ask("the rent is due monthly", f"{DONE} .fn-made")
    assert "written by parrot" in person.text(".fn-made")
    assert not person.page.is_visible("text=in all")
    person.page.click(".fn-took summary")
    person.page.wait_for_selector(".fn-took >> text=/search .* s, first word .* s, writing .* s, check .* s, in all/")
    again = Person(browser, url)
    again.ask("the rent is due monthly", f"{DONE} .fn-made")
    assert again.text(".fn-made") == "written by parrot, from an earlier answer"


def test_the_number_of_documents_at_the_top_follows_what_comes_and_goes(
    browser: Any, serve: Serve, open_rag: OpenRag, catalog: Catalog, tmp_path: Path
) -> None:
    person = Person(browser, serve(open_rag({"a.md": LEASE}), catalog))
    person.page.on("dialog", lambda dialog: dialog.accept())
    person.page.wait_for_selector(".fn-bar >> text=1 document,")
    person.tab("Documents")
    (tmp_path / "pool.md").write_text(POOL)
    person.page.set_input_files("#fn-files", [str(tmp_path / "pool.md")])
    person.page.wait_for_selector(".fn-bar >> text=2 documents,")
    person.page.click("[aria-label='Remove pool.md']")
    person.page.wait_for_selector(".fn-bar >> text=1 document,")
