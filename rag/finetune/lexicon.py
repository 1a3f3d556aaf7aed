"""Words that made claims are changed with: opposites make a claim false, other words for the same leave it true.

And what the form of a sentence is known by, for the questions that are made of it: words, endings and signs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

_OPPOSITES = """increase decrease|increased decreased|increases decreases|increasing decreasing|higher lower|more less|
more fewer|greater smaller|before after|first last|first second|second third|only also|always never|often rarely|
all some|most few|many few|male female|men women|man woman|boy girl|father mother|son daughter|brother sister|
husband wife|he she|his her|king queen|actor actress|north south|northern southern|east west|eastern western|
best worst|better worse|positive negative|largest smallest|large small|larger smaller|big small|major minor|
older younger|oldest youngest|old new|early late|earlier later|began ended|begin end|start stop|started stopped|
open closed|opened closed|won lost|winning losing|win lose|accepted rejected|approved denied|alive dead|born killed|
married divorced|true false|above below|over under|inside outside|public private|left right|hot cold|high low|
long short|strong weak|rich poor|success failure|successful unsuccessful|known unknown|possible impossible|
necessary unnecessary|effective ineffective|similar different|same different|common rare|include exclude|
includes excludes|import export|buy sell|bought sold|upper lower|up down|gained lost|rise fall|rose fell|
rising falling|growth decline|grew shrank|support oppose|supported opposed|agreed refused|allowed banned|
legal illegal|safe dangerous|easy difficult|fast slow|day night|summer winter|spring autumn|black white|red blue|
green yellow|American British|French German|Chinese Japanese|English Spanish|Canadian Australian|Indian Pakistani|
Italian Greek|Russian Polish|Europe Asia|Africa America|city village|country city|film book|movie novel|song album|
album film|band singer|actor director|singer actor|writer painter|president minister|teacher student|doctor nurse|
river mountain|lake river|island continent|war peace|army navy|football basketball|baseball hockey|music dance|
January June|February October|March November|April August|May September|July December|Monday Thursday|
Tuesday Saturday|Wednesday Sunday|million billion|thousand million|hundred thousand|percent times|days weeks|
weeks months|months years|hours days|minutes hours|year month|century decade|adults children|patients doctors|
virus bacteria|viral bacterial|cause prevent|causes prevents|caused prevented|human animal|humans animals|
parents children|internal external|direct indirect|acute chronic|primary secondary|maximum minimum|with without|
for against|to from"""

_SAME = """about,approximately,around,roughly|many,numerous,a lot of|large,big|film,movie|began,started|begin,start|
starts,begins|used,utilised,employed|shows,demonstrates,indicates|showed,demonstrated,indicated,revealed|
show,demonstrate,indicate|also,too|however,but|because,since|near,close to|important,significant,crucial,key|
help,assist|helps,assists|found,discovered|often,frequently|usually,generally,typically|children,kids|
people,persons,individuals|located,situated|built,constructed|made,created,produced|bought,purchased|get,obtain|
gets,obtains|needed,required|need,require|requires,needs|wrote,authored|such as,like,including|although,though|
several,multiple,various|main,primary,principal|biggest,largest|total,overall|died,passed away|killed,murdered|
doctors,physicians|physician,doctor|car,automobile|university,college|famous,well-known,renowned|difficult,hard|
quickly,rapidly,fast|entire,whole|within,inside|among,amongst|while,whilst|until,till|led to,caused,resulted in|
leads to,causes,results in|due to,because of,owing to|consists of,is made up of,comprises|is called,is known as|
was called,was known as|is a type of,is a kind of|plays a role in,is involved in|can,is able to|
cannot,can not,is not able to|did not,didn't|does not,doesn't|is not,isn't|was not,wasn't|are not,aren't|
will not,won't|the US,the United States,the U.S.,America|the UK,the United Kingdom,Britain|percent,%,per cent|
years old,years of age|aim,goal,purpose|evaluate,assess|evaluated,assessed,examined|study,research,investigation|
illness,disease|treatment,therapy|risk,danger|lowered,reduced,decreased|raised,increased|reduce,lower,decrease|
reduces,lowers,decreases|increase,raise|improve,enhance|improved,enhanced|third,3rd|second,2nd|first,1st"""

BEFORE = """yes , |yes, |no, |i think |I think |I'm not sure, but |i'm not sure , but |that's interesting! |yeah, |oh, |
well, |did you know |i know that |Actually, |In fact, |wow! |I've heard that |According to the text, |It is said that |
i love it ! |that is so cool . |I agree! |great question. |haha yes, |The answer is that |Based on the passage, |
To summarize, |Yes, |i believe """.replace("\n", "").split("|")
"""What people and models say before what they say."""
BEHIND = """ do you like it ?| isn't that interesting ?| I didn't know that.| that's cool .| what do you think?|
 have you heard of it?| i love that .""".replace("\n", "").split("|")


def _opposites() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for both in _OPPOSITES.replace("\n", "").split("|"):
        one, other = both.split()
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return found


OPPOSITES = _opposites()
SAME = {
    phrase.lower(): [other for other in group if other != phrase]
    for group in (line.split(",") for line in _SAME.replace("\n", "").split("|"))
    for phrase in group
}
_LONGEST_FIRST = sorted(map(re.escape, SAME), key=len, reverse=True)
PHRASE = re.compile(rf"(?<!\w)({'|'.join(_LONGEST_FIRST)})(?!\w)", re.IGNORECASE)
MONTHS = "January February March April May June July August September October November December".split()
NEGATION = re.compile(r"\b(not|never|no)\b")
AUXILIARY = re.compile(r"\b(is|are|was|were|has|have|had|can|could|will|would|may|should|does|did)\b")
SHORTENED = frozenset(("is", "are", "was", "were", "has", "does", "did"))
"""Auxiliaries that take a shortened "not"."""

# The form of a sentence.

BE = frozenset("is are was were".split())
HAVE = {"has": "does", "have": "do", "had": "did"}
"""Forms of `have` -> the auxiliary that asks where they are none themselves."""
MODALS = frozenset("can could will would may might should must".split())
AUXILIARIES = BE | HAVE.keys() | MODALS
ADVERBS = frozenset(
    "also often sometimes still then now only even always first later soon therefore thus since".split()
)
PREPOSITIONS = frozenset(
    """about above across after against along among around as at before behind below beneath beside besides between
    beyond by despite down during except for from in inside into like near of off on onto out outside over per since
    through throughout to toward towards under until up upon using via with within without""".split()
)
OF_NOUNS = frozenset("of with without between among like".split())
"""Prepositions that mostly tell of the noun before them."""
DETERMINERS = frozenset(
    """the a an its their his her some many most all both each several every two three four five six seven eight nine
    ten eleven twelve""".split()
)
NEVER = frozenset(
    """and or but not that which who whom whose where when while if because do does did to than this these those such it
    he she they we i you his her their its our my your there here other another others latter former same above below
    following so how what why whether no none nor also one ones""".split()
)
"""Words that no subject has: it would not be plain, or would point at another sentence."""
POINTING = re.compile(
    r"\b(?:(?i:this|these|those|such|above|below|following|latter|former|aforementioned|here|we|our|my|he|she|they|you|"
    r"your|table|figure|fig)|us|it|It)\b"
)
"""Words that mean something beside other sentences alone."""

_PAST = """added add|became become|began begin|bore bear|broke break|brought bring|built build|bought buy|came come|
chose choose|drew draw|drove drive|ate eat|fell fall|felt feel|fought fight|found find|flew fly|gave give|went go|
grew grow|held hold|kept keep|knew know|led lead|left leave|lost lose|made make|meant mean|met meet|paid pay|ran run|
rose rise|said say|saw see|sent send|spent spend|spoke speak|stood stand|took take|taught teach|told tell|thought think|
won win|wrote write|sold sell|sang sing|wore wear|threw throw|sought seek|shot shoot|struck strike|swore swear|
underwent undergo|withdrew withdraw|overthrew overthrow"""
PAST = dict(pair.split() for pair in _PAST.replace("\n", "").split("|"))
"""Irregular past form -> base form."""
_VERBS = """accept accumulate achieve activate adopt affect allow apply argue arise assume become begin belong bring
carry choose circulate classify compete comprise conclude confer confirm connect consist constitute contain contribute
convert correspond create define demonstrate depend depict derive describe destroy determine develop differ discover
distinguish dominate emerge emphasize employ enable encode encourage enhance ensure enter examine exceed exist expand
explain express generate give grow hold identify illustrate imply improve include incorporate indicate inhibit
introduce involve keep know learn lie lose maintain make mediate obtain occupy occur operate oppose originate perform
persist possess predict prefer prevent produce promote protect prove provide publish pursue receive recognize recommend
reduce refer reflect regulate rely remain remove replace replicate represent require resemble resist restrict retain
reveal seek sell serve solve speak specify spend stimulate suffer suggest surround survive take teach tell tend think
transform transmit undergo understand utilize vary write""".split()


def _third(base: str) -> str:
    if base.endswith("y") and base[-2] not in "aeou":
        return f"{base[:-1]}ies"
    return f"{base}es" if base.endswith(("s", "sh", "ch", "x", "go")) else f"{base}s"


PRESENT = {form: base for base in _VERBS for form in (base, _third(base))}
PRESENT |= {"uses": "use", "covers": "cover", "features": "feature"}
"""Present form -> base form, of verbs whose forms are seldom nouns."""
PARTICIPLES = frozenset(
    """beaten become been begun born broken brought built bought chosen cut done drawn driven drunk eaten felt fought
    forgotten found given gone grown held hidden hit hung kept known laid led left lent lost made meant met paid put
    read run said seen sent set shot shown shut sold spent spoken spread stolen struck sung sunk sworn taken taught
    thought thrown told torn understood won worn written overthrown""".split()
)
"""Irregular ones."""
_ED = re.compile(r"(?!based|united|indeed|hundred|named|called|titled|entitled|dubbed)[a-z]{3,}ed")
_WITHOUT_E = re.compile(r"(?:ct|nd|[^a]nt|rm|[ieu]st|sh|ck|ft|pt|rt|ss|ch|ld|lt|[ao]in|[aeo]w|[ao]y|[eo]at)$")
_WITH_E = re.compile(r"(?:[^eo]at|iz|is|uc|ag|v|rg|nc|dg|u|[^a]ir|[^o]ur|[^ao]in)$")
"""Endings of base forms that are all there without -ed, and of those that have lost an e."""
INTRANSITIVE = frozenset(
    """appear arise arrive begin belong collaborate come consist contribute decline depend die differ escape exist fall
    fight flee focus go grow happen lead lie live look meet migrate move occur participate refer rely remain result
    retire return rise serve settle sink speak stand stay struggle study succeed survive travel vary work""".split()
)
"""Base forms of verbs that a preposition may follow at once: behind other ones, -ed is often a participle."""
_ASKED_ABOUT = """agree on|belong to|collaborate with|consist of|contribute to|depend on|differ from|focus on|lead to|
participate in|refer to|rely on|respond to|result in|serve as|struggle with|suffer from|associated with|based on|
best known for|composed of|derived from|famous for|followed by|known for|linked to|made of|made up of|named after|
responsible for|similar to|surrounded by|used as|used for"""
ASKED_ABOUT = frozenset(_ASKED_ABOUT.replace("\n", "").split("|"))
"""Verbs and participles with a preposition that a question can end in."""
MEANT = frozenset("used designed intended contracted asked forced developed created established founded hired".split())
"""Participles that are followed by what for: `designed to ...`."""
SAYING = frozenset(
    """argue assert assume believe claim conclude confirm demonstrate estimate explain find hypothesize indicate know
    note observe predict propose report reveal say see show speculate state suggest think write""".split()
)
"""Base forms of verbs that a whole sentence may follow behind "that"."""
DOERS = frozenset(
    """argued authored built commanded composed conceived conquered created defeated designed developed directed
    discovered established founded formulated invented introduced killed led married painted performed produced proposed
    proved published ruled sang signed sung taught translated won written wrote""".split()
)
"""Past forms and participles of what people do, and seldom things."""
DONE_TO = frozenset("appointed arrested assassinated born buried crowned educated elected exiled killed".split())
"""Participles of what is done to people."""
PLACED = frozenset(
    """arrived based born built buried concentrated conducted constructed crowned died discovered displayed educated
    established exhibited formed found founded headquartered held installed kept lived located met opened performed
    placed raised recorded released seen settled signed situated stationed studied taken taught worked""".split()
)
"""Past forms and participles of what happens at places."""
PERSONS = frozenset(
    """actor actress architect artist astronomer author bishop biologist botanist captain chemist coach composer
    cornerback daughter director economist emperor engineer explorer founder general governor grandson historian
    inventor journalist khan king lawyer linebacker man mathematician minister monk musician nephew novelist nurse
    painter philosopher physician physicist pianist player poet politician pope president priest prince princess
    professor quarterback queen scholar scientist senator singer son statesman sultan surgeon teacher theologian
    woman writer""".split()
)
NO_PLACES = frozenset(
    """Arabic Chinese Dutch English French German Greek Hebrew Hindi Italian Japanese Korean Latin Persian Polish
    Portuguese Russian Sanskrit Spanish Turkish Christianity Islam Judaism Buddhism God Parliament Congress""".split()
)
"""Names that stand behind "in"."""
FITTING = frozenset(
    """began|started|starts|begins|showed|indicated|discovered|often|frequently|usually|generally|typically|children|
people|located|situated|built|constructed|bought|purchased|needed|required|requires|needs|wrote|main|biggest|largest|
died|famous|difficult|entire|among|until|led to|leads to|improve|improved|assessed|reduces|help|helps""".replace(
        "\n", ""
    ).split("|")
)
"""Phrases that other words for the same fit in the place of, whatever stands around them."""


def base_of(verb: str, vocabulary: Collection[str]) -> tuple[str, str]:
    """Base form of a past or present form, and the auxiliary that asks with it; auxiliaries have none and ask."""
    if verb in PAST:
        return PAST[verb], "did"
    if verb in PRESENT:
        return PRESENT[verb], "do" if verb == PRESENT[verb] else "does"
    if not ends_in_ed(verb):
        return "", verb
    tries = [verb[:-1], verb[:-2], verb[:-3], verb[:-3] + "y" * verb.endswith("ied")]
    if verb[-3] == verb[-4] and verb[-3] not in "sl":
        tries = tries[1:3]
    return next((each for each in tries if each in vocabulary), _spelled(verb[:-2])), "did"


def finite(word: str, vocabulary: Collection[str]) -> bool:
    """True for an auxiliary, and for a verb's past or present form."""
    return word in AUXILIARIES or bool(base_of(word, vocabulary)[0])


def _spelled(stem: str) -> str:
    """The base form that a verb without -ed shows by its spelling; or empty."""
    if stem.endswith("i"):
        return f"{stem[:-1]}y"
    return stem if _WITHOUT_E.search(stem) else f"{stem}e" if _WITH_E.search(stem) else ""


def ends_in_ed(word: str) -> bool:
    """True for what looks like a past form."""
    return _ED.fullmatch(word) is not None


def participle(word: str) -> bool:
    """True for a word that behind `was` makes it the passive voice."""
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def adverb(word: str) -> bool:
    """True for what can stand between a subject and its verb."""
    return word in ADVERBS or word.endswith("ly")


YEAR = r"(?:1[0-9]\d\d|20\d\d)"
MONTH = rf"(?:{'|'.join(MONTHS)})"
SIGN = r"(?:%| %| percent| per cent)"
NUMERAL = (
    r"(?:(?:about|around|more than|over|approximately|nearly|almost|at least|up to|fewer than|less than|only) )?"
    r"(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen)(?: (?:hundred|thousand|million|billion))?"
)
CAPITALISED = r"[A-Z][\w'’&-]*[\w.](?: (?:of (?:the )?|the |de |van |von )?[A-Z][\w'’&-]*\w)*"
LOWER_FIRST = re.compile(
    r"(?:The|An?|Some|Many|Most|All|Both|Each|Several|Every|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|Patients|"
    r"Children|People|Women|Men|Students|Cells|[A-Z][a-z]+(?:tions?|ments?|ness|viruses))\b"
)

LEAD = re.compile(
    r"(?!At (?:the|that|first) |By then)(?:(?P<said>However|Moreover|Furthermore|Additionally|Also|Finally|Therefore|"
    r"Thus|Hence|Consequently|Nevertheless|Initially|Overall|Similarly|Historically|Today|Traditionally|Generally|"
    r"Typically|Later|Eventually|Indeed|Notably|For example|For instance|In addition|In fact|As a result|In general|"
    r"In contrast|In particular|(?:According to|Due to|Because of|Despite|Unlike|Like|Along with|Over time) "
    r"?[^,]{0,40})|"
    rf"(?P<date>(?:In|On|During) (?:{MONTH} \d{{1,2}}, {YEAR}|[^,]{{0,30}}{YEAR}s?))(?:,|(?= the | [A-Z]))|"
    r"(?P<kept>(?:In|At|On|During|For|Under|Among|Within|From|Throughout|After|Before|By|Since|Between|Until|As of|"
    r"Through) [^,]{2,45})),? "
)
"""What stands before the main clause: what can go, and what may stand at the end of a question."""
INSERTED = re.compile(r"(?P<subject>[A-Z][^,]{1,50}), (?P<span>[^,]{3,90}), (?P<verb>[a-z]+)(?= )")
"""Subject and verb with something between them."""
CUT = re.compile(
    r",? (?P<why>because(?! of)|in order to|so that) |,? (?:while|whilst|whereas|although|though|when|if|unless|but|"
    r"whereby|after|before|until|since|despite|depending) |, (?:which|who|where|whose|whom|as|so|and then|including|"
    r"such|with|[a-z]+ing|originally|especially|particularly|thus|hence|yet|or|nor|in|at|on|for|from|to|by|compared|except|"
    r"[a-z]+ed (?:to|in|by|at|for|from|with|as|on))\b|; |: |—| [–-] "
)
"""Where the main clause ends."""
COMMA = re.compile(rf", (?!{YEAR}\b)")
ADDED = re.compile(r"(?:an? |the |home |along |each |namely |among |mainly |mostly )(?P<words>)|one |[A-Z0-9]")
"""How something begins that is only added behind a comma; other words may go on with what is told."""
ENUMERATION = re.compile(r"[^,]+(?:, [^,]{2,40}){1,6},? (?:and|or) [^,]{2,60}$")
BROKEN = re.compile(
    r",|\b(?:that|which|who|whose|whom|where|than|whether|how|what|between)\b|"
    r"\b(?:to|and|or)\b (?!the |an? |its |his |her |their |[A-Z0-9])"
)
"""Between a verb and a phrase: the phrase may then belong to something else."""
SUBJECT_WORDS = 8
"""Of a subject, at most."""


def verb_at(words: Sequence[str], vocabulary: Collection[str]) -> int | None:
    """Where the finite verb stands; None where that is not clear."""
    for at in range(1, min(SUBJECT_WORDS + 2, len(words) - 1)):
        word, before = words[at], words[at - 1].lower()
        if before[-1] in ",;:":
            return None
        if word in AUXILIARIES:
            return at
        if before in DETERMINERS | PREPOSITIONS or before.isdigit() or before.endswith("ing"):
            continue
        if base := base_of(word, vocabulary)[0]:
            return _either(words, at, base)
        if ends_in_ed(word):
            return None
    return None


def _either(words: Sequence[str], at: int, base: str) -> int | None:
    """Where the finite verb stands, when one at a place may also be a participle that tells of the subject."""
    another = next((i for i in _until_next_clause(words, at + 1) if words[i] in AUXILIARIES), None)
    told = base not in INTRANSITIVE and (words[at + 1] in PREPOSITIONS or words[at + 1] in ("and", "or"))
    if another is not None:
        return another if told and another <= SUBJECT_WORDS else None
    return None if told and participle(words[at]) else at


def _until_next_clause(words: Sequence[str], start: int) -> Iterator[int]:
    for i in range(start, len(words)):
        if words[i] in NEVER or (i and words[i - 1][-1] in ",;:"):
            return
        yield i


def begins_clause(words: Sequence[str], vocabulary: Collection[str]) -> bool:
    """True where words behind "and" go on with another verb, or are a sentence of their own."""
    first = next((word for word in words if not adverb(word)), "")
    if finite(first, vocabulary) or first in ("did", "does", "do", "it", "he", "she", "they"):
        return True
    near = [words[i] for i in _until_next_clause(words[:8], 0)]
    return any(word in AUXILIARIES or word in PAST or word in PRESENT for word in near)
