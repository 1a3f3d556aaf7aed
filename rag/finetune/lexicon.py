"""Words that made claims are changed with: opposites make a claim false, other words for the same leave it true."""

from __future__ import annotations

import re

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
