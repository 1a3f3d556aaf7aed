"""A trained adapter -> a directory that other programs serve: as it is, or merged into the weights it was trained on.

Knows nothing about how it was trained or what it is worth.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rag.adapters import CONFIG, Adapter, read_adapter
from rag.convert import repack
from rag.errors import FinetuneError
from rag.weights import Weights, convert, sha256_of

Format = Literal["adapter", "safetensors", "gguf"]

README = "README.md"
CARD = """# {name}

A {kind} adapter of the language model {base}, tuned with Footnote. It fits the weights with this sha256, and no others:
`{sha256}`. DIR stands for this directory.

## With Footnote

    FOOTNOTE_LLM_ADAPTER=DIR footnote ask "..."
"""
SERVED = """
## With vLLM

    {command}

{where}Then, for Footnote:

    FOOTNOTE_LLM_BASE_URL=http://localhost:8000/v1 FOOTNOTE_LLM_MODEL={name} footnote ask "..."
"""
FROM_GGUF = """BASE stands for the model as a directory of safetensors, which is made of the GGUF file by

    python -m rag.convert llm-safetensors-1 {file} BASE

"""
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`; the first one is its default."""

TURN = "<|im_start|>{role}\n{content}<|im_end|>\n"
REPLY = "<|im_start|>assistant\n"
TURNS = tuple(
    {"role": role, "content": content}
    for role, content in (("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "And?"))
)
"""A conversation that shows whether a chat template is ChatML."""


def export(base: Weights, adapter: Path, format: Format, out: Path, name: str) -> dict[str, Any]:
    """Write a directory, all of it or nothing.

    Args:
        base: what the adapter was trained on.
        adapter: its directory, as peft has it.
        format: `adapter` is a copy with a word on how to serve it; `safetensors` and `gguf` are the merged model, for
            transformers and vLLM, and for Ollama and llama.cpp (in Q8_0).
        out: the directory; there is none yet, or it is empty.
        name: what the model is called there.

    Returns:
        Format, path, and the files with their sizes and hashes.

    Raises:
        FinetuneError: the directory is not empty, the adapter does not fit the weights, or the disk fails.
        WeightsError: the adapter is damaged, or merging failed.
        SettingsError: there is no adapter in its directory.
    """
    out, found = out.expanduser().absolute(), read_adapter(adapter)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FinetuneError(f"{out} is there already; name another directory with --out, or remove it")
    if format != "adapter" and not found.merges:
        raise FinetuneError(
            f"{adapter} is a {found.kind} adapter, which cannot be merged into weights (expected LORA); "
            "use --format adapter"
        )
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        WRITERS[format](base, found, part, re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model")
        files = [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(part.iterdir())
        ]
        part.rename(out)
    except OSError as error:
        raise FinetuneError(f"{out} cannot be written: {error.strerror or error}; check the disk") from None
    except (ValueError, NotImplementedError) as error:
        raise FinetuneError(f"{base.name} cannot be exported as {format}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"format": format, "path": str(out), "files": files}


def _adapter(base: Weights, adapter: Adapter, folder: Path, name: str) -> None:
    for path in sorted(adapter.path.iterdir()):
        if path.is_file() and path.name != README:
            shutil.copyfile(path, folder / path.name)
    card = CARD.format(name=name, kind=adapter.kind, base=base.name, sha256=base.sha256)
    if adapter.merges:
        card += _served(base, adapter, name)
    (folder / README).write_text(card, encoding="utf-8")


def _served(base: Weights, adapter: Adapter, name: str) -> str:
    """How vLLM serves it."""
    path, gguf = shlex.quote(str(base.path)), base.path.suffix == ".gguf"
    config = json.loads((adapter.path / CONFIG).read_text(encoding="utf-8"))
    highest = max(config["r"], *config.get("rank_pattern", {}).values(), 0)
    rank = next((rank for rank in VLLM_RANKS if rank >= highest), highest)
    more = f" --max-lora-rank {rank}" if rank > VLLM_RANKS[0] else ""
    command = f"vllm serve {'BASE' if gguf else path} --enable-lora --lora-modules {name}=DIR{more}"
    return SERVED.format(command=command, where=FROM_GGUF.format(file=path) if gguf else "", name=name)


def _safetensors(base: Weights, adapter: Adapter, folder: Path, name: str) -> None:
    del name
    convert("llm-safetensors-1" if base.path.suffix == ".gguf" else "llm-merged-1", base, folder, adapter.path)


def _gguf(base: Weights, adapter: Adapter, folder: Path, name: str) -> None:
    if base.path.suffix != ".gguf":
        raise FinetuneError(
            f"--format gguf needs a base that is a GGUF file (found {base.path}); use --format safetensors and turn "
            "its result into a GGUF file with llama.cpp's convert_hf_to_gguf.py"
        )
    import gguf

    file = folder / f"{name}.gguf"
    repack(base.path, file, adapter.path)
    template = gguf.GGUFReader(file).fields.get("tokenizer.chat_template")
    (folder / "Modelfile").write_text(modelfile(file.name, template.contents() if template else ""), encoding="utf-8")


WRITERS: dict[Format, Callable[[Weights, Adapter, Path, str], None]] = {
    "adapter": _adapter,
    "safetensors": _safetensors,
    "gguf": _gguf,
}


def modelfile(file: str, template: str) -> str:
    """What `ollama create` reads.

    Ollama's templates are Go's, so a chat template of another form than ChatML is left to Ollama, which knows the
    common ones by sight.

    Args:
        file: the GGUF's name.
        template: its chat template.
    """
    lines = [f"FROM ./{file}", "PARAMETER temperature 0"]
    if (opening := _opening(template)) is not None:
        default = f"{{{{ if not .System }}}}{opening}{{{{ end }}}}" if opening else ""
        turn = TURN.format(role="{{ .Role }}", content="{{ .Content }}")
        lines.insert(1, f'TEMPLATE """{default}{{{{ range .Messages }}}}{turn}{{{{ end }}}}{REPLY}"""')
        lines += ['PARAMETER stop "<|im_start|>"', 'PARAMETER stop "<|im_end|>"']
    return "\n".join(lines) + "\n"


def _opening(template: str) -> str | None:
    """What a ChatML template puts before a conversation without a system message; None where it is not ChatML."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # As transformers sets it up: templates are written for that.
    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    try:
        render = jinja.from_string(template).render
        whole, without = (render(messages=turns, add_generation_prompt=True) for turns in (TURNS, TURNS[1:]))
    except (TemplateError, TypeError, ValueError):
        return None
    wanted, ending = ("".join(TURN.format_map(turn) for turn in turns) + REPLY for turns in (TURNS, TURNS[1:]))
    return without.removesuffix(ending) if whole == wanted and without.endswith(ending) else None
