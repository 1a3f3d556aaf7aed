"""A question in a conversation -> a question that stands alone, by rules or by a language model.

The rules never read a document: they look at the questions and answers so far. They are made for English; in another
language a short question gets the earlier ones' terms, and a long one stays as it is. Knows nothing about passages.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from rag.errors import FootnoteError
from rag.llm import LLM
from rag.prompt import ABSTENTION, plain
from rag.settings import Settings
from rag.sparse import STOP_WORDS, tokens
from rag.types import Message

log = logging.getLogger("footnote.rewrite")

FEW_WORDS = 2
"""A question with no more words of content than this says too little to be searched for by itself."""
DEFINITE = re.compile(r"\bthe\b", re.IGNORECASE)
"""Without a name, what is called "the" something was spoken of before, so one word more is still few."""
ANTECEDENT = 3
"""So many words of content before a pronoun, and it may mean one of them."""
MOST_TERMS = 6
LONGEST_TERM = 60
LONGEST_FOLLOW_UP = 300
"""Characters. A longer question says itself what it is about."""
LOOKED_AT = 2000
"""Characters of a message that terms are taken from."""
TURNS = 6
"""Questions that are looked back at."""
FADING = 0.7
"""What a term counts, for each turn that it lies further back."""
NAME, WORD = 3.0, 1.0
"""What a term of a question counts."""
ANSWERED = 0.4
"""What it counts in an answer: that is longer, and may be wrong."""
ENGLISH = 0.25
"""Share of function words from which questions are taken for English."""

PRONOUNS = frozenset(
    "he him his himself she her hers herself it its itself they them their theirs themselves this these those "
    "one ones other others another same former latter there then".split()
)
POINTING = frozenset("that first second third last next".split())
"""Words that point back only at the end, before `one`, or, `that` alone, before a noun: "that company"."""
EMPTY = re.compile(
    r"\b(?:(?:is|are|was|were|will) there|it (?:that|true|possible|allowed|(?:takes?|costs?) to)|"
    r"that (?:is|are|was|were|has|have|can|the|a))\b",
    re.IGNORECASE,
)
"""Where `it`, `there` and `that` point at nothing."""
OPENINGS = re.compile(
    r"[¿¡]?(?:and|but|or|so|also|then|plus|why|what about|how about|what if|what else|how come|really|are you sure|"
    r"und|aber|oder|warum|wieso|et|mais|ou|pourquoi|y|pero|ma|perché|maar|waarom|och|men|og|hvorfor)\b",
    re.IGNORECASE,
)
CALENDAR = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april june july august september "
    "october november december mondays tuesdays wednesdays thursdays fridays saturdays sundays".split()
)
"""Written like names, and names of nothing."""
FUNCTION_WORDS = STOP_WORDS | frozenset(
    "about actually after again all also am another any anyone anything become became been before being both came can "
    "cannot could did do does doing done during each either else ever every exactly from further get gets give gives "
    "given go goes got had happen happened happens has have having he her here hers him his how however i instead its "
    "just kind know let long lot many may maybe me mean means might mine more most much must my need neither nor now "
    "often ok okay old one only other others ought our ours out over own please quite rather really same shall she "
    "should since so some someone something soon sort still take tell than thank thanks theirs them thing things "
    "those though too under until up upon us use very want way we were what when where whether which while who whom "
    "whose why without would yes yet you your yours "
    "that's what's when's where's who's it's he's she's they're i'm i'd i'll isn't aren't wasn't don't doesn't "
    "didn't can't won't".split()
)
_WORD = re.compile(r"\w+(?:['’.,/+-]\w+)*")
_IDENTIFIER = re.compile(r"[^\W\d_]{2,}\w*(?:[./_-][^\W\d_]{2,}\w*)*[._][^\W\d_]{2,}\w*")
"""A file, a setting or the like: `feedback.jsonl`, `docs/ingest.md`, `min_relevance`."""
_OPENS_SENTENCE = re.compile(r"(?:^|[.!?:;\n])[\s\"“„(]*$")
_LABEL = re.compile(r"^(?:[\w ]{0,30}question[\w ]{0,30}:)\s*", re.IGNORECASE)
_ASKS = ("?", "？", "؟", ";")  # the last one is Greek

SYSTEM = (
    "Rewrite the last question of the conversation so that it stands alone: put what its pronouns mean in their "
    "place, and add what it leaves out. Keep its language. If it stands alone already, repeat it. Reply with the "
    "question and nothing else."
)
SHOWN_TURNS = 4
SHOWN = 400
"""Characters of each question and answer that the language model is shown."""
LONGEST_REPLY = 400
"""Characters."""
TOLD = 0.5
"""Share of a rewritten question's terms that the conversation must hold: a model may answer instead, or invent."""


class Term(NamedTuple):
    """A word of content, or a name of several words."""

    text: str
    start: int
    name: bool
    """True where it is written like a name, with capitals or digits, or like a file's or a setting's."""

    @property
    def names(self) -> bool:
        """True for a name, but not for a number, a code such as E07 or a day: many things have those."""
        words = self.text.split() if self.name else ()
        return any(_IDENTIFIER.fullmatch(word) or (word.isalpha() and word.lower() not in CALENDAR) for word in words)


class Turn(NamedTuple):
    """A question of the conversation, and what was answered."""

    question: str
    answer: str


class Rewriter:
    """Rewrites as the settings say. Safe to use from several threads."""

    def __init__(self, settings: Settings, llm: Callable[[], LLM]) -> None:
        """`llm` gives the language model; it is called only where one is asked."""
        self._mode, self._llm, self._told = settings.follow_ups, llm, False
        if self._mode == "auto":
            self._mode = "rules" if settings.bundled_llm else "llm"

    def standalone(self, question: str, history: Sequence[Message]) -> str:
        """The question as it would be asked without the conversation; itself where it needs no rewriting.

        Where the language model fails, or replies with something else than a question, the rules decide.
        """
        if self._mode == "off" or not _turns(history):
            return question
        if self._mode == "llm":
            try:
                if (rewritten := by_llm(question, history, self._llm())) is not None:
                    return rewritten
            except FootnoteError as error:
                if not self._told:
                    log.warning("follow-up questions are rewritten by rules, since the language model fails: %s", error)
                self._told = True
        return by_rules(question, history)


def by_llm(question: str, history: Sequence[Message], llm: LLM) -> str | None:
    """The question as a language model rewrites it; None where the reply is not one question from the conversation.

    Raises:
        LLMError: the language model failed.
    """
    reply = ""
    with closing(llm.stream(_request(question, history))) as pieces:
        for piece in pieces:
            reply += piece
            if len(reply) > 2 * LONGEST_REPLY:
                break
    reply = _LABEL.sub("", reply.strip()).strip().strip('"“”„').strip()
    if len(reply.splitlines()) != 1 or len(reply) > LONGEST_REPLY or reply.startswith(ABSTENTION.removesuffix(".")):
        return None
    one = not any(mark in reply[:-1] for mark in _ASKS[:3])
    asks = reply.endswith(_ASKS) or not (question.strip().endswith(_ASKS) or reply.endswith("."))
    return reply if one and asks and _told(reply, question, history) else None


def _request(question: str, history: Sequence[Message]) -> list[Message]:
    lines = []
    for turn in reversed(_turns(history)[:SHOWN_TURNS]):
        lines.append(f"User: {turn.question[:SHOWN]}")
        if turn.answer:
            lines.append(f"Assistant: {turn.answer[:SHOWN]}")
    return [Message("system", SYSTEM), Message("user", plain("\n".join([*lines, "", f"Last question: {question}"])))]


def _told(reply: str, question: str, history: Sequence[Message]) -> bool:
    """True where all numbers and most other terms of a reply are those of the conversation."""
    known = {word for text in (question, *(message.content for message in history)) for word in _words(text)}
    words = [word for term in terms(reply) for word in _words(term.text)]
    numbers = [word for word in words if word[0].isdigit()]
    return known.issuperset(numbers) and sum(word in known for word in words) >= TOLD * len(words)


def by_rules(question: str, history: Sequence[Message]) -> str:
    """The question; where it cannot be understood by itself, the conversation's salient terms follow in brackets.

    Pure. At most `MOST_TERMS` terms of at most `LONGEST_TERM` characters are added.
    """
    turns = _turns(history)
    if not turns or not depends(question):
        return question
    own = terms(question)
    told = {word for term in own for word in _words(term.text)}
    # Where it has a name of its own, it asks the same of something else: the words are kept, not the names.
    named = any(term.names for term in own) and _english([question, *(turn.question for turn in turns)])
    found = [term for term in _salient(turns) if not (named and term.name) and not told.issuperset(_words(term.text))]
    return f"{question} ({', '.join(term.text for term in found)})" if found else question


def depends(question: str) -> bool:
    """True where a question cannot be understood without the conversation that it is part of."""
    question = question.strip()
    if len(question) > LONGEST_FOLLOW_UP:
        return False
    found = terms(question)
    if OPENINGS.match(question) or _points_back(question, found):
        return True
    few = FEW_WORDS + (DEFINITE.search(question) is not None)
    return not any(term.names for term in found) and sum(map(_weight, found)) <= few


def terms(text: str) -> list[Term]:
    """The names and words of content of a text, in order."""
    found: list[Term] = []
    for match in _WORD.finditer(text[:LOOKED_AT]):
        word, start = match.group(), match.start()
        if _plain_word(word) in FUNCTION_WORDS or len(word) > LONGEST_TERM:
            continue
        name = _capital(word, text, start) or _IDENTIFIER.fullmatch(word) is not None
        last = found[-1] if found else None
        joined = last is not None and text[last.start + len(last.text) : start] == " "
        if last is not None and joined and name and _like_name(last) and len(last.text) + len(word) < LONGEST_TERM:
            found[-1] = Term(f"{last.text} {word}", last.start, True)
        else:
            found.append(Term(word, start, name or any(c.isdigit() for c in word)))
    return [Term(re.sub(r"['’]s$", "", term.text), term.start, term.name) for term in found]


def _english(texts: Sequence[str]) -> bool:
    """True where capitals tell names: about half of the words of English questions are in our list, few of others."""
    words = [word for text in texts for word in _words(text[:LOOKED_AT])]
    return sum(word in FUNCTION_WORDS for word in words) >= ENGLISH * len(words)


def _plain_word(word: str) -> str:
    return re.sub(r"'s$", "", word.lower().replace("’", "'"))


def _like_name(term: Term) -> bool:
    """True for what may begin a name: at the beginning of a sentence it shows only by what follows."""
    return term.name or term.text[0].isupper()


def _capital(word: str, text: str, start: int) -> bool:
    """True where a word is written like a name; at the beginning of a sentence one capital says nothing."""
    opens = _OPENS_SENTENCE.search(text[max(0, start - 4) : start]) if start > 3 else not text[:start].strip(' "“„(')
    return (word[0].isupper() and not opens) or sum(c.isupper() for c in word) > 1


def _words(text: str) -> list[str]:
    return [_plain_word(match.group()) for match in _WORD.finditer(text)]


def _weight(term: Term) -> int:
    """Words that a term stands for; in scripts without spaces, two characters are one."""
    return max(1, sum(unicodedata.east_asian_width(c) in "WF" for c in term.text) // 2)


def _points_back(question: str, found: Sequence[Term]) -> bool:
    """True where a pronoun stands before anything that it could mean."""
    question = EMPTY.sub(lambda match: "-" * len(match.group()), question)
    words = [(match.start(), match.group().lower().split("'")[0]) for match in _WORD.finditer(question)]
    for (start, word), (_, after) in pairwise([*words, (len(question), "")]):
        before = [term for term in found if term.start < start]
        if any(term.names for term in before) or len(before) >= ANTECEDENT:
            return False
        if word in PRONOUNS or (word in POINTING and after in ("one", "ones", "")):
            return True
        if word == "that" and not any(term.names for term in found):
            return True
    return False


def _turns(history: Sequence[Message]) -> list[Turn]:
    """The newest turns, newest first."""
    found: list[Turn] = []
    answer = ""
    for message in reversed(history):
        if message.role == "assistant":
            answer = "" if message.content == ABSTENTION else message.content
        elif message.role == "user" and message.content.strip():
            found.append(Turn(message.content, answer))
            answer = ""
        if len(found) == TURNS:
            break
    return found


def _salient(turns: Sequence[Turn]) -> list[Term]:
    """The terms that count most, back to the question that the topic began with; in the order of the conversation."""
    counted: dict[str, tuple[float, int, Term]] = {}
    place, named = 0, False
    for age, turn in enumerate(turns):
        asked = terms(turn.question)
        for found, share in ((terms(turn.answer), ANSWERED), (asked, 1.0)):
            for term in reversed(found):
                place += 1
                # A later question had a name of its own, and with it another subject.
                if not (named and term.names):
                    key = " ".join(tokens(term.text)) or term.text
                    value = counted[key][0] if key in counted else 0.0
                    counted[key] = (value + (NAME if term.names else WORD) * share * FADING**age, place, term)
        named = named or any(term.names for term in asked)
        if named and not depends(turn.question):
            break
    best = sorted(counted.values(), key=lambda item: (-item[0], item[1]))[:MOST_TERMS]
    return [term for _, _, term in sorted(best, key=lambda item: -item[1])]
