"""A finished training -> one self-contained HTML page: its curves, what it was made with, and what it learned from.

Knows nothing about models or about how they are trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from eval import plots
from eval.run import write_whole
from rag.errors import FinetuneError
from rag.finetune.runs import TuningRun

REPORT = "report.html"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #111}}
table {{ border-collapse: collapse }}
td, th {{ border-bottom: 1px solid #e5e7eb; padding: .2rem .8rem .2rem 0; text-align: left }}
svg {{ max-width: 100%; height: auto }}
</style></head><body><h1>{name}</h1><p>{said}</p>{curve}
<h2>Made with</h2>{made}<h2>Learned from</h2>{data}</body></html>
"""


def write_page(run: TuningRun) -> Path:
    """Write the page of a finished training beside it. Raises FinetuneError."""
    path = run.folder / REPORT
    try:
        write_whole(path, page(run.folder.name, run.header))
    except OSError as error:
        raise FinetuneError(f"{path} cannot be written: {error.strerror}; check the disk") from None
    return path


def page(name: str, header: Mapping[str, Any]) -> str:
    """The page of a training with this header; see `TuningRun.header`."""
    done, card = header["finished"], header["data"]["card"]
    said = (
        f"The adapter of step {done['step']:,} did best on what was held out: {done['held_loss']:.3f} nats a token. "
        f"Base model: {header['base']['name']}."
    )
    made = {**header["plan"], "goes on from": header["start"], "prompt": header["prompt"], "adapter": done["adapter"]}
    data = {f"{part}: {key}": value for part in ("train", "validation") for key, value in card[part].items()} | {
        f"{each['name']}, {each['kind']}": each.get("documents", each.get("rows")) for each in card["sources"]
    }
    return PAGE.format(
        name=escape(name), said=escape(said), curve=plots.losses(done["history"]), made=_table(made), data=_table(data)
    )


def _table(rows: Mapping[str, Any]) -> str:
    cells = (f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in rows.items())
    return f"<table>{''.join(cells)}</table>"
