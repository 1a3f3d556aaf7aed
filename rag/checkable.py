"""Which sentences of an answer claim something that passages could support. Pure rules for English.

Knows nothing about passages.
"""

from __future__ import annotations

import re

from rag.align import STOP, words

LETTER = re.compile(r"[^\W\d_]")
QUESTION = re.compile(r"\?[\"'”’)\]\s]*$")
PERSON = frozenset("i me my mine myself we us our you your yours yourself".split())
CHATTER = frozenset(
    "yes yeah yep no nope ok okay oh ah wow haha hello hi hey thanks thank sorry please well sure cool great nice good "
    "awesome amazing interesting funny fun true right agree agreed think thought thinking know knew heard hear love "
    "loved like liked enjoy hope guess believe wonder see understand feel glad happy welcome really actually maybe "
    "perhaps probably definitely absolutely exactly indeed lot bit much thing things something anything everything not "
    "never ever always m s ve re ll d t don didn doesn isn wasn haven know idea help question let favorite favourite "
    "fan too way hope hopes help helps sounds sound looks look pretty quite m going".split()
)
"""Words that people say to each other and that say nothing about the world."""
QUESTION_CLAIMS, NO_WORDS, CHAT = (
    "a question claims nothing",
    "there are no words to look for",
    "it says nothing about the documents",
)


def why_not(sentence: str) -> str:
    """Why a sentence cannot be checked, for a person; empty where it can."""
    if not LETTER.search(sentence) and not any(letter.isdigit() for letter in sentence):
        return NO_WORDS
    if QUESTION.search(sentence):
        return QUESTION_CLAIMS
    said = words(re.sub(r"\s*['’]\s*", " ", sentence))
    telling = [word for word in said if word not in STOP and word not in CHATTER and word not in PERSON]
    if telling:
        return ""
    return CHAT if said else NO_WORDS
