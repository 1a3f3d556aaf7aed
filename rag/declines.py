"""An answer's text -> whether it declines to answer. Pure rules for English; knows nothing about questions or passages.

An answer declines where some clause says that the answer is not known or not in the sources, and every other clause
is an apology, an offer, a request, or says what the sources are about instead. One clause that claims anything else
makes it an answer: one that answers and then hedges is not an abstention.
"""

from __future__ import annotations

import re

from rag import sentences

LONGEST = 1200
"""Characters. A longer text is an answer, whatever it says of what it lacks."""


def _words(listed: str) -> str:
    """A group of words or phrases; those of several words are joined by underscores."""
    return f"(?:{'|'.join(listed.replace('_', ' ') for listed in listed.split())})"


# --- what the rules speak about; texts are in lower case, with single spaces

GIVEN = _words("provided given supplied available retrieved above uploaded following relevant search shared attached")
SOURCES = _words(
    "contexts? passages? excerpts? snippets? documents? documentation sources? texts? search_results? knowledge_base"
)
MAY_BE_SOURCES = _words(
    "information data results? articles? materials? content files? pages? paragraphs? details? knowledge reports?"
)
"""They are sources only where it is said that they were given: results and data are what science speaks of, too."""
YOURS = (
    r"(?: (?:you (?:have )?(?:provided|shared|gave)|i (?:have|was given|can see)|(?:in|from) (?:your|the) \w+|here))"
)
AFTER = rf"(?:{YOURS}| {GIVEN})"
OWNERS = _words("the these those this your our my any_of_the all_the")
SOURCE = (
    rf"(?:{OWNERS} )?(?:(?:{GIVEN} )+(?:{SOURCES}|{MAY_BE_SOURCES})|{SOURCES}|{MAY_BE_SOURCES}(?={AFTER}))(?:{AFTER})?"
)
WHERE = _words("in within from by on of with among based_on according_to")
IN_SOURCE = rf"{WHERE} {SOURCE}"

ASKS = _words("what who whom whose when where why which how if whether")
INFORMATION = _words("information info mentions? details? references? answers? context data knowledge record idea")
CANNOT = _words("cannot can_not can't could_not couldn't")
DO_NOT = rf"(?:(?:do|does|did)(?: not|n't)|{CANNOT}|won't|will not)"
IS_NOT = rf"(?:(?:is|are|was|were|has|have)(?: not|n't)(?: been)?|{CANNOT} be)"
NO = _words("no not_enough insufficient")
HOW = r"(?: (?:\w+ly|just|seem to|appear to|even|yet|currently))*"
SAY = _words(
    "mention say state specify answer address discuss tell explain indicate reveal refer_to talk_about speak_of"
    " speak_to touch_on touch_upon identify disclose clarify name describe cover elaborate help support_an_answer allow"
)
HOLD = _words("contain include provide give have hold offer supply list show present")
HELD = _words(
    "information info details? answers? mentions? data references? specifics explanation context knowledge facts?"
    " enough sufficient anything what who when where why how the_exact the_specific the_name the_date the_reason"
)
SAID = _words(
    "found given stated provided determined available mentioned specified answered known clear included discussed"
    " addressed covered identified described contained named inferred"
)
IT = rf"(?:{SOURCE}|it|they|(?:none|neither) of {SOURCE}|nothing {IN_SOURCE})"
I = r"(?:i|we)(?:'m|'re| am| are| was| were)?(?: really| simply| honestly| currently| also| just| unfortunately)*"  # noqa: E741
I_CANNOT = rf"{I} (?:{DO_NOT}|(?:not |un)able to){HOW}"
FIND = (
    rf"(?:find|provide|give|offer)(?: you)?(?: with)? {_words('an? any the that this enough sufficient it specific')}"
)
DO = rf"(?:{_words('answer determine locate identify confirm verify assist_with')}|{FIND})"
HELP = r"help(?: you)? with|fulfil+ (?:this|that|your)"
TO_TELL = r"(?:say|tell|determine|know|answer|provide)"
UNCLEAR = (
    rf"(?:unclear|unknown|impossible to {TO_TELL}"
    rf"|not (?:\w+ly )?(?:clear|known|stated|specified|mentioned|possible to {TO_TELL}))"
)

REFUSALS = (
    # I don't know; I can't find the answer; I do not have enough information; I'm not sure
    rf"{I} (?!did){DO_NOT}{HOW} know(?:$| (?:the (?:exact |correct )?answer|that|this|it|based on|from|{ASKS})\b)",
    rf"{I_CANNOT} (?:{DO}|{HELP}|see (?:any|an?) {INFORMATION})\b",
    rf"{I_CANNOT} (?:tell|say)(?:$| (?:you|for (?:sure|certain)|{ASKS}|{WHERE})\b)",
    rf"{I_CANNOT} have (?:\w+ ){{0,3}}(?:{INFORMATION}|access)\b",
    rf"{I} (?:have|had|found|see|find) {NO} (?:\w+ ){{0,2}}{INFORMATION}\b",
    rf"{I} (?:not (?:entirely |really |quite )?(?:sure|certain)|unsure)(?:$| (?:about|based|from|{ASKS})\b)",
    rf"{I} (?:unable|not able|not allowed) to\b|{I} lack (?:the|enough|sufficient)\b",
    # the passages do not say; the context contains no information; nothing in the text mentions it
    rf"{IT} {DO_NOT}{HOW} {SAY}\b",
    rf"{IT} {DO_NOT}{HOW} {HOLD}\b(?: [\w'-]+){{0,6}}? {HELD}\b",
    rf"(?:no|none of|neither of|nothing {WHERE}) {SOURCE}{HOW} (?:{SAY}|{HOLD})s?\b",
    rf"{IT} (?:{HOLD}s?|makes?|says?|has|mentions?) (?:nothing|{NO}(?: \w+){{0,3}}? (?:{INFORMATION}|about|on))\b",
    rf"{SOURCE} (?:lacks?|(?:is|are) (?:silent|insufficient|not (?:sufficient|enough|relevant)))\b",
    rf"{SOURCE} fails? to (?:{SAY}|{HOLD})\b",
    # there is no information; no mention is made; not enough information; not found in the documents; unknown
    rf"there(?:'s| is| are| was| were)(?: not|n't)? (?:{NO}|any|enough|nothing) (?:\w+ ){{0,3}}?{INFORMATION}\b",
    rf"there(?:'s| is| are) (?:no|nothing)\b.* {IN_SOURCE}",
    rf"{NO} (?:\w+ ){{0,2}}?(?:{INFORMATION}|{SOURCES})(?:$| (?:about|on|regarding|concerning|of|found)\b)",
    rf"{NO} (?:\w+ ){{0,2}}?(?:{INFORMATION}|{SOURCES}) (?:to {TO_TELL}\b|(?:is|are|was|were) {SAID}\b|{IN_SOURCE})",
    rf"(?:not|never) (?:\w+ly )?(?:{SAID}|answerable|sure|enough)(?:$| {IN_SOURCE}| (?:here|information|context))",
    rf"(?:{CANNOT} (?:answer|say|be determined)|don't know|unknown|unanswerable|n/?a|no answer|insufficient)$",
    rf"{CANNOT} be {SAID}\b.{{0,60}}? {IN_SOURCE}",
    # the answer cannot be found; the date is not stated in the passages; it is unclear from the context
    rf"[\w' -]{{1,80}}? {IS_NOT} (?:\w+ly )?(?:{SAID}|possible to {TO_TELL})\b.{{0,60}}? {IN_SOURCE}",
    rf"(?:the|an?|this|that|your) (?:exact |correct |specific |requested )?(?:answer|question|query|information)\b"
    rf".{{0,60}}? {IS_NOT} (?:\w+ly )?(?:{SAID}|in)\b",
    rf"(?:it(?:'s| is| remains) )?{UNCLEAR}\b.{{0,60}}? {IN_SOURCE}",
)
ASIDES = (
    # apologies, requests, offers
    _words("please kindly feel_free let_me_know thanks? sorry apologies i_apologi[sz]e my_apologies") + r"\b",
    r"(?:could|can|would|will|do|if) you\b|if there\b|is there (?:any|some)thing\b|what would you\b",
    r"(?:you (?:may|might|can|could|should|would|will)|you'd|you'll)\b",
    r"(?:i|we)(?:'d|'ll| can| could| would| will| suggest| recommend)\b(?! (?:say|see|guess|assume|estimate|think))",
    r"it (?:would|might|may) be (?:helpful|best|necessary|useful|worth)\b",
    rf"(?:more|additional|further) (?:\w+ )?{INFORMATION}\b.*\b(?:needed|required|necessary|help|helpful)\b",
    # what the sources are about instead
    rf"(?:{SOURCE}|it|they) (?:(?:only|just|mainly|instead|primarily|mostly|rather|do|does) )*"
    r"(?:discuss|mention|cover|describe|talk about|focus on|deal with|refer to|(?:contain|provide) information"
    r"|(?:is|are) (?:only |mainly )?about)(?:e?s)?\b(?!.*\bthat\b)",
    r"(?:the |this )?(?:question|query|topic) (?:is|was|falls|seems)\b.*\b(?:unrelated|outside|out of scope)\b",
)
LEADS = (
    r"(?:i'm|i am|we're|we are)(?: (?:very|so|truly|really))? (?:sorry|afraid)",
    r"sorry|unfortunately|regrettably|apologies|i apologi[sz]e(?: for [\w ]+)?|well|hmm+|however|answer|that said",
    r"but|and|so|that|at (?:this|the) (?:moment|time)|as far as i can (?:tell|see)",
    r"as an ai(?: language)?(?: model| assistant)?",
    rf"(?:(?:based|relying) (?:solely |only )?(?:up)?on|according to|from|in|given|with|within|looking at) {SOURCE}",
    rf"(?:after reviewing|having reviewed) {SOURCE}|(?:while|although|though) [^,]*\b(?:{SOURCES}|information)\b[^,]*",
)

_REFUSAL = re.compile("|".join(f"(?:{each})" for each in REFUSALS))
_ASIDE = re.compile("|".join(f"(?:{each})" for each in ASIDES))
_LEAD = re.compile(rf"(?:(?:{'|'.join(LEADS)})(?: ?[,:;—–-] ?| |$))+")
_LEFT_OPEN, _SOURCE = re.compile(rf"it(?:'s| is| remains) {UNCLEAR}\b"), re.compile(rf"\b{SOURCE}")
_BETWEEN = re.compile(
    r" ?; ?| [—–] |,? \b(?:but|however|though|although)\b,? |, (?=so i\b|so it\b|so there\b|therefore\b)"
    r"|(?<=know), |(?<=sure), "
)
_OPENING, _CLOSING = " \"“'([*_-", " .!?…\"”')]*_:,;-"


def declines(text: str) -> bool:
    """True where the whole answer says that there is none. A blank text is no answer, but it says nothing: False."""
    if len(text) > LONGEST:
        return False
    plain = " ".join(text.replace("’", "'").split())
    parts = [plain[start:end].lower() for start, end in sentences.split(plain)]
    clauses = [clause.lstrip(_OPENING).rstrip(_CLOSING) for part in parts for clause in _BETWEEN.split(part)]
    kinds = [_kind(clause) for clause in clauses if clause]
    return "refusal" in kinds and "claim" not in kinds


def _kind(clause: str) -> str:
    """What a clause is, with or without what leads in to it: `refusal`, `aside` or `claim`."""
    led = _LEAD.match(clause)
    rest = clause[led.end() :] if led else clause
    of_sources = led is not None and _SOURCE.search(led.group()) is not None
    if _REFUSAL.match(clause) or _REFUSAL.match(rest) or (of_sources and _LEFT_OPEN.match(rest)):
        return "refusal"
    return "aside" if not rest or _ASIDE.match(clause) or _ASIDE.match(rest) else "claim"
