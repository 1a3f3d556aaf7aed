"""The panel of the page that says which documents a question is asked of: documents, folders, types, days.

Knows nothing about questions or answers.
"""

from __future__ import annotations

from pathlib import PurePath
from textwrap import shorten
from typing import Any, NamedTuple

import gradio as gr

from ingest.catalog import Catalog
from rag.filter import Filter
from ui.narrow import checked, day_of
from ui.parts import QUIET

EVERYWHERE = "Search in all documents"


class Chosen(NamedTuple):
    """What a person chose in the panel, in the order of its fields."""

    documents: list[str]
    folders: list[str]
    types: list[str]
    since: str | None
    until: str | None

    @property
    def name(self) -> str:
        """The panel's name, with what is chosen: it counts also while the panel is closed."""
        days = [*([f"from {self.since}"] if self.since else []), *([f"until {self.until}"] if self.until else [])]
        names = [PurePath(name).name or name for name in (*self.documents, *self.folders)]
        chosen = ", ".join([*names, *self.types, *days])
        return f"Search in: {shorten(chosen, 80, placeholder=' …')}" if chosen else EVERYWHERE

    def filter(self, catalog: Catalog, collection: str) -> Filter:
        """The filter that it adds up to. Raises FilterError."""
        lists = (tuple(self.documents), tuple(self.folders), tuple(self.types))
        return checked(Filter(*lists, day_of(self.since), day_of(self.until)), catalog, collection)


class Fields(NamedTuple):
    """The fields of the panel."""

    documents: gr.Dropdown
    folders: gr.Dropdown
    types: gr.Dropdown
    since: gr.DateTime
    until: gr.DateTime


def build() -> Fields:
    """The panel, closed, in the place where this is called; its name tells what is chosen in it."""
    several: Any = {"multiselect": True, "allow_custom_value": True, "filterable": True, "value": []}
    day: Any = {"include_time": False, "type": "string", "min_width": 140}
    with gr.Accordion(EVERYWHERE, open=False, elem_id="fn-within") as accordion:
        with gr.Row():
            documents = gr.Dropdown([], label="Documents", elem_id="fn-documents", min_width=200, scale=2, **several)
            folders = gr.Dropdown([], label="Folders", elem_id="fn-folders", min_width=200, scale=2, **several)
            types = gr.Dropdown([], label="Types", elem_id="fn-types", min_width=120, **several)
        with gr.Row():
            since = gr.DateTime(label="From", elem_id="fn-since", **day)
            until = gr.DateTime(label="Until", elem_id="fn-until", **day)
    fields = Fields(documents, folders, types, since, until)
    for field in fields:
        field.change(lambda *chosen: gr.update(label=Chosen(*chosen).name), list(fields), accordion, **QUIET)
    return fields
