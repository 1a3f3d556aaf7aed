"""A sentence -> its main clause, for the questions that are made of it. Rules for English.

Knows nothing about questions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from rag.finetune import lexicon as en

COUNT_FIRST = re.compile(
    rf"(?:a total of )?(?P<span>{en.NUMERAL}(?P<sign>{en.SIGN})?) "
    r"(?P<noun>(?:of (?:the |all )?)?(?:[\w-]+ ){0,4}[\w-]+)$",
    re.IGNORECASE,
)


class Clause(NamedTuple):
    """The main clause of a sentence, without what is subordinate to it."""

    lead: str
    """`in 1912`: what stands in front and may stand at the end; or empty."""
    subject: str
    adverb: str
    """Between subject and verb; or empty."""
    verb: str
    helper: str
    """The auxiliary that asks: the verb itself, or a form of `do`."""
    base: str
    """The verb's base form; empty where the verb is an auxiliary."""
    rest: str
    why: str
    """Why it is so: `because ...`; or empty."""

    @property
    def passive(self) -> str:
        """The participle, where there is one behind a form of `be`; or empty."""
        before, words = [self.verb], self.rest.split()
        while len(words) > 1 and (en.adverb(words[0]) or words[0] in ("be", "been")):
            before.append(words.pop(0))
        be = not self.base and any(word in en.BE or word in ("be", "been") for word in before)
        return words[0] if be and en.participle(words[0]) else ""

    @property
    def named(self) -> bool:
        """True where the subject looks like a name."""
        return self.subject[:1].isupper()

    def asked(self, rest: str, lead: bool = True) -> str:
        """The clause as it stands in a question, with another rest: `did X move to Y`, `was X founded`."""
        return f"{self.helper} {self.subject} {self.adverb} {self.base} {rest} {self.lead if lead else ''}"


def clause_of(sentence: str, vocabulary: Collection[str]) -> Clause | None:
    """The main clause; None where it cannot be told, or is about something that another sentence names."""
    said, sentence = _lead(sentence)
    lead, sentence = (said, sentence) if said else _lead(sentence)
    words = sentence.split()
    at = en.verb_at(words, vocabulary)
    if at is None:
        return None
    verb, subject, between = words[at], words[:at], ""
    if len(subject) > 1 and en.adverb(subject[-1]):
        *subject, between = subject
    rest, why = _rest(" ".join(words[at + 1 :]), vocabulary)
    if not rest or not _stands_alone(subject):
        return None
    base, helper = en.base_of(verb, vocabulary)
    if verb in en.HAVE and not en.participle(next((word for word in rest.split() if not en.adverb(word)), "")):
        base, helper = "have", en.HAVE[verb]
    name = " ".join(subject)
    name = name[:1].lower() + name[1:] if en.LOWER_FIRST.match(name) else name
    return Clause(lead, name, between, verb, helper, base, rest, why)


def _lead(sentence: str) -> tuple[str, str]:
    """What stands before the first comma as it may stand at the end of a question, and the sentence behind it."""
    match = en.LEAD.match(sentence)
    if not match or (not match["date"] and not match.group().endswith(", ")):
        return "", sentence
    lead = match["date"] or match["kept"] or ""
    if len(lead.split()) > 6 or en.POINTING.search(lead) or re.search(r"\b(?:its|their|his|her|some|other)\b", lead):
        lead = ""
    behind = sentence[match.end() :]
    return lead[:1].lower() + lead[1:], behind[:1].upper() + behind[1:]


def _stands_alone(subject: Sequence[str]) -> bool:
    """True for a subject that is plain, and names what it means."""
    first, *more = [word.lower() for word in subject]
    if len(subject) > en.SUBJECT_WORDS or first in en.NEVER | en.AUXILIARIES:
        return False
    if (first in en.PREPOSITIONS or first.endswith("ly")) and not COUNT_FIRST.match(" ".join(subject)):
        return False
    unclear = any(word in en.NEVER and word != "and" for word in more)
    return not unclear and (first, *more)[-1] not in en.PREPOSITIONS | en.DETERMINERS | {"and"}


def _rest(text: str, vocabulary: Collection[str]) -> tuple[str, str]:
    """What stands behind the verb up to the next clause, and a reason that is told; empty where it is not plain."""
    if text.startswith("that "):
        return ("" if re.search("[;:–—]", text) else text), ""
    match = en.CUT.search(text)
    rest = text[: match.start()] if match else text
    why = re.split(r"[,;:]", text[match.start("why") :])[0] if match and match["why"] else ""
    for found in re.finditer(r",? (?:and|or) ", rest):
        if en.begins_clause(rest[found.end() :].split(), vocabulary):
            rest, why = rest[: found.start()], ""
            break
    if len(parts := en.COMMA.split(rest, maxsplit=1)) > 1 and not en.ENUMERATION.match(rest):
        added = en.ADDED.match(parts[1])
        clear = added and (added["words"] is not None or not re.search(r"\b(?:and|or)\b", parts[1]))
        rest, why = (parts[0] if clear else ""), ""
    return rest.strip(" ,"), why


def is_person(phrase: str) -> bool:
    """True where a phrase is about a person: `the son of a miner`."""
    head = re.split(r" (?:of|in|at|for|from|to|who|and|with|by|on) ", phrase)[0]
    return head.split()[-1].lower().strip(",.") in en.PERSONS
