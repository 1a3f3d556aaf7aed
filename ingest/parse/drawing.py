"""What is drawn on a slide or over a sheet: text boxes, tables, charts and diagrams, as lines and rows.

Knows nothing about slides, sheets or pieces. The XML is read as it is, without python-pptx, so that a shape which
breaks the rules costs nothing but itself (ECMA-376-1, parts 19-21).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ingest.parse.numbers import shown
from ingest.parse.package import Package, local, reference

_TITLES = ("title", "ctrTitle")
_FURNITURE = ("ftr", "dt", "hdr")
_HIDDEN = ("sldNum", "sldImg")
_SERIES_PARTS = (("{*}cat", "{*}val"), ("{*}xVal", "{*}yVal"))


class Drawn(NamedTuple):
    """One shape: `text`, or `rows` of a table."""

    kind: str
    """`title`, `text`, `table`, `picture`, or `furniture` for what stands on every slide."""
    text: str = ""
    rows: Sequence[Sequence[str]] = ()
    has_header: bool | None = None
    """None where the file does not say whether the first row has column names."""
    own: bool = True
    """False for a placeholder, which a slide fills and its layout only shows the place of."""


def shapes(node: Any, package: Package, part: str) -> Iterator[Drawn]:
    """The shapes in and below `node`, in the order in which they are read aloud."""
    for child in node:
        name = local(child)
        if name == "AlternateContent":
            yield from shapes(_chosen(child), package, part)
        elif name in ("sp", "cxnSp"):
            yield from _shape(child)
        elif name == "graphicFrame":
            yield from _graphic(child, package, part)
        elif name == "pic":
            yield Drawn("picture")
        else:
            yield from shapes(child, package, part)


def lines(body: Any) -> Iterator[str]:
    """The paragraphs of a text body; a bullet or a number where the paragraph itself has one."""
    number = 0
    for paragraph in body.iter("{*}p"):
        text = "".join(_runs(paragraph)).strip()
        properties = paragraph.find("{*}pPr")
        numbered = properties is not None and properties.find("{*}buAutoNum") is not None
        number = number + 1 if numbered and text else 0
        if text:
            yield f"{number}. {text}" if numbered else f"- {text}" if _is_item(properties) else text


def _is_item(properties: Any) -> bool:
    if properties is None or properties.find("{*}buNone") is not None:
        return False
    return properties.find("{*}buChar") is not None or properties.get("lvl", "0") != "0"


def _runs(node: Any) -> Iterator[str]:
    for child in node:
        name = local(child)
        if name == "t":
            yield child.text or ""
        elif name == "br":
            yield "\n"
        elif name == "AlternateContent":
            yield from _runs(_chosen(child))
        elif name and not (name == "fld" and child.get("type") == "slidenum"):
            yield from _runs(child)


def _chosen(alternatives: Any) -> Any:
    """What a program that knows everything would show: the first choice, unless there is nothing in it."""
    choices = [child for child in alternatives if local(child) in ("Choice", "Fallback")]
    return next((choice for choice in choices if len(choice)), ())


def _shape(node: Any) -> Iterator[Drawn]:
    place = next(node.iter("{*}ph"), None)
    role = "" if place is None else place.get("type", "obj")
    body = node.find("{*}txBody")
    if body is None or role in _HIDDEN:
        return
    text = "\n".join(lines(body))
    if text:
        kind = "title" if role in _TITLES else "furniture" if role in _FURNITURE else "text"
        yield Drawn(kind, text, own=not role)


def _graphic(node: Any, package: Package, part: str) -> Iterator[Drawn]:
    data = next(node.iter("{*}graphicData"), node)
    for child in data:
        name = local(child)
        if name == "tbl":
            yield _table(child)
        elif name == "chart":
            yield from _chart(_linked(package, part, reference(child, "id")))
        elif name == "relIds":
            yield from _diagram(_linked(package, part, reference(child, "dm")))
        else:
            yield from shapes(child, package, part)


def _linked(package: Package, part: str, identity: str) -> Any:
    relation = package.relations(part).get(identity)
    return package.xml(relation.part) if relation else None


def _table(node: Any) -> Drawn:
    properties = node.find("{*}tblPr")
    told = None if properties is None else properties.get("firstRow")
    rows = [[" ".join(lines(cell)) for cell in row.findall("{*}tc")] for row in node.findall("{*}tr")]
    return Drawn("table", rows=rows, has_header=None if told is None else told in ("1", "true"))


def _chart(root: Any) -> Iterator[Drawn]:
    """A chart's titles, and the numbers that it draws: a table for the series that share their categories."""
    if root is None:
        return
    titles = (" ".join(lines(title)) or _first(title, "v") for title in root.iter("{*}title"))
    yield Drawn("text", "\n".join(filter(None, titles)))
    groups: dict[tuple[tuple[int, str], ...], list[tuple[str, dict[int, str]]]] = {}
    for series in root.iter("{*}ser"):
        labels, values = ({} if node is None else _points(node) for node in map(series.find, _SERIES_PARTS[0]))
        if not values:
            labels, values = ({} if node is None else _points(node) for node in map(series.find, _SERIES_PARTS[1]))
        name = series.find("{*}tx")
        groups.setdefault(tuple(labels.items()), []).append(("" if name is None else _first(name, "v"), values))
    for labels_of, members in groups.items():
        yield _plotted(dict(labels_of), members)
    for data in root.iter("{*}data"):  # charts since 2016, such as a waterfall
        columns = [{int(point.get("idx", 0)): point.text or "" for point in one} for one in data.iter("{*}lvl")]
        yield Drawn("table", rows=[[one.get(at, "") for one in columns] for at in sorted(set().union(*columns))])


def _plotted(labels: dict[int, str], series: Sequence[tuple[str, dict[int, str]]]) -> Drawn:
    places = sorted(set(labels).union(*(values for _, values in series)))
    rows = [[labels.get(at, ""), *(values.get(at, "") for _, values in series)] for at in places]
    names = ["", *(name for name, _ in series)]
    return Drawn("table", rows=[names, *rows] if any(names) else rows, has_header=any(names))


def _points(node: Any) -> dict[int, str]:
    """A series' labels or values by their place; the inner level comes last where labels have several."""
    code = _first(node, "formatCode")
    points: dict[int, str] = {}
    for point in node.iter("{*}pt"):
        at, text = int(point.get("idx", 0)), _first(point, "v")
        if next(point.iterancestors("{*}numCache", "{*}numLit"), None) is not None:
            text = _shown(text, point.get("formatCode", code))
        points[at] = f"{text} {points[at]}" if at in points else text
    return points


def _shown(text: str, code: str) -> str:
    try:
        return shown(float(text), code)
    except ValueError:
        return text


def _first(node: Any, name: str) -> str:
    """The text of the first element of this local name."""
    return next((found.text or "" for found in node.iter(f"{{*}}{name}")), "")


def _diagram(root: Any) -> Iterator[Drawn]:
    """A SmartArt diagram as the list that its author typed, indented."""
    if root is None:
        return
    texts = {node.get("modelId"): " ".join(lines(node)) for node in root.iter("{*}pt")}
    below: dict[str, list[tuple[int, str]]] = {}
    for link in root.iter("{*}cxn"):
        if link.get("type", "parOf") == "parOf":
            below.setdefault(link.get("srcId"), []).append((int(link.get("srcOrd", 0)), link.get("destId")))
    tops = [node.get("modelId") for node in root.iter("{*}pt") if node.get("type") == "doc"]
    found: list[str] = []
    waiting = [(0, top) for top in tops]
    while waiting:
        depth, at = waiting.pop()
        if text := texts.pop(at, ""):
            found.append(f"{'  ' * max(0, depth - 1)}- {text}")
        waiting += [(depth + 1, name) for _, name in sorted(below.pop(at, ()), reverse=True)]
    yield Drawn("text", "\n".join([*found, *filter(None, texts.values())]))
