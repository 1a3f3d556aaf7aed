"""Labelled data on disk -> a finished run under the home directory. What the command line and pytest have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from eval import answers, faithfulness, importers, judges, retrieval, tuned
from eval import judge as judging
from eval.baselines import open_baselines
from eval.cases import read_qa, read_retrieval, spread
from eval.claim_sets import Trained, read_sets
from eval.corpus import Say
from eval.gains import CONDITIONS
from eval.run import RUN, Finished, Run, name_of, read_run
from rag.answer import Rag
from rag.embed import open_embedder
from rag.finetune.recipe import BLEND
from rag.llm import LLM
from rag.settings import Settings
from rag.verify import open_checker


def measure_retrieval(
    settings: Settings,
    directory: Path,
    say: Say,
    qrels: Path | None = None,
    limit: int | None = None,
    name: str | None = None,
    fresh: bool = False,
) -> Finished:
    """How well documents are found.

    Args:
        settings: how passages are cut, searched and fused; the run is kept under their home directory.
        directory: documents, questions and judgements; see `read_retrieval`.
        say: told how far it is.
        qrels: judgements in the place of the directory's own.
        limit: ask so many questions only, evenly spread.
        name: the run's; without one, a finished run that was made with the same is replaced.
        fresh: begin anew where a run of this name is there.

    Raises:
        EvalError: the data cannot be used, or a run is in the way.
        FootnoteError: the corpus cannot be indexed.
    """
    data, embedder = read_retrieval(directory, qrels), open_embedder(settings)
    run = _begin(settings, "retrieval", retrieval.made_of(settings, embedder, data, limit), name, fresh)
    retrieval.evaluate(settings, embedder, data, run, say, limit)
    return read_run(str(run.directory), settings)


def measure_answers(
    settings: Settings,
    path: Path,
    say: Say,
    brackets: tuple[str, ...] = (),
    unanswerable: float = 0.0,
    limit: int | None = None,
    name: str | None = None,
    fresh: bool = False,
) -> Finished:
    """How good answers are, end to end.

    Args:
        settings: how answers are made; the run is kept under their home directory.
        path: documents and questions with answers, or a file of questions about the user's collection; see `read_qa`.
        say: told how far it is.
        brackets: what is asked besides Footnote, of `eval.answers.CLOSED_BOOK` and `ORACLE`.
        unanswerable: share of the documents that are left out, so that their questions have no answer.
        limit: ask so many questions only, evenly spread.
        name: see `measure_retrieval`.
        fresh: see `measure_retrieval`.

    Raises:
        EvalError: the data cannot be used, or a run is in the way.
        FootnoteError: the corpus cannot be indexed, or there is no language model.
    """
    data = answers.without(read_qa(path), unanswerable)
    data = replace(data, questions=spread(data.questions, limit))
    systems = (answers.PRODUCT, *brackets)
    with answers.asking(settings, data, say) as rag:
        run = _begin(settings, "answers", answers.made_of(rag, data, systems), name, fresh)
        answers.evaluate(rag, data, run, systems, say)
    return read_run(str(run.directory), settings)


def measure_tuned(
    settings: Settings,
    base_llm: LLM,
    tuned_llm: LLM,
    path: Path,
    say: Say,
    held_out: Collection[str] = (),
    limit: int | None = None,
    name: str | None = None,
    fresh: bool = False,
    oracle: bool = True,
) -> Finished:
    """How much better a tuned model answers than the one that it was made from.

    Args:
        settings: how answers are made; the run is kept under their home directory.
        base_llm: the model as it came.
        tuned_llm: the tuned one.
        path: see `measure_answers`.
        say: told how far it is.
        held_out: ask only about these documents, of which the tuned model has learned nothing; about all without any.
        limit: ask so many questions of those only, evenly spread.
        name: see `measure_retrieval`.
        fresh: see `measure_retrieval`.
        oracle: ask with nothing but the right documents, too.

    Raises:
        EvalError: the data cannot be used, no question is about what was held out, or a run is in the way.
        FootnoteError: the corpus cannot be indexed, or the checker cannot be loaded.
    """
    data = tuned.about(read_qa(path), held_out)
    data = replace(data, questions=spread(data.questions, limit))
    conditions = [each for each in CONDITIONS if oracle or each != answers.ORACLE]
    with answers.asking(settings, data, say) as opened:
        one, two = (Rag(settings, opened.embedder, opened.store, llm, opened.checker) for llm in (base_llm, tuned_llm))
        run = _begin(settings, tuned.KIND, tuned.made_of(one, two, data, conditions), name, fresh)
        tuned.evaluate(one, two, data, run, say, conditions)
    return read_run(str(run.directory), settings)


def measure_judge(
    settings: Settings,
    path: Path,
    say: Say,
    judge: str = judges.LOCAL,
    format: str = importers.AUTO,
    system: str = answers.PRODUCT,
    limit: int | None = None,
    name: str | None = None,
    fresh: bool = False,
) -> Finished:
    """How far any system's answers keep to the passages that they were written from.

    Args:
        settings: the support that a sentence needs; the run is kept under their home directory.
        path: answers, see `eval.importers.read_answers`; or the name or directory of a run of answers.
        say: told how far it is.
        judge: `local`, `llm`, or the path or hub id of a cross-encoder.
        format: of a file: `auto`, or one of `eval.importers.FORMATS`.
        system: of a run: whose answers.
        limit: judge so many answers only, evenly spread.
        name: see `measure_retrieval`.
        fresh: see `measure_retrieval`.

    Raises:
        EvalError: the answers cannot be used, or a run is in the way.
        FootnoteError: the judge cannot be loaded.
    """
    data = _given(settings, path, format, system)
    data = replace(data, answers=spread(data.answers, limit))
    asked = judges.open_judges(judge, settings, open_checker(settings))
    run = _begin(settings, "judge", judging.made_of(settings, asked, data), name, fresh)
    judging.evaluate(asked, data, run, say)
    return read_run(str(run.directory), settings)


def measure_faithfulness(
    settings: Settings,
    paths: Sequence[Path],
    say: Say,
    baselines: bool = False,
    limit: int | None = None,
    name: str | None = None,
    fresh: bool = False,
    open_: Callable[[str], Trained] | None = None,
) -> Finished:
    """How far the checker of sentences can be trusted, against people's labels.

    Args:
        settings: the support that a sentence needs; the run is kept under their home directory.
        paths: sets of labelled claims; see `eval.claim_sets.read_sets`.
        say: told how far it is.
        baselines: compare with plainer measures, too.
        limit: check so many claims of each set only, evenly spread.
        name: see `measure_retrieval`.
        fresh: see `measure_retrieval`.
        open_: gives the checker that was fitted without the set of this name; the one that comes with Footnote without.

    Raises:
        EvalError: the data cannot be used, or a run is in the way.
        FootnoteError: the checker cannot be loaded.
    """
    sets, opened = read_sets(paths, limit), open_ or _checkers(settings)
    beside = open_baselines(settings) if baselines else {}
    made = faithfulness.made_of(settings, sets, opened, tuple(beside))
    run = _begin(settings, faithfulness.KIND, made, name, fresh)
    faithfulness.evaluate(settings, sets, opened, run, say, beside)
    return read_run(str(run.directory), settings)


def _checkers(settings: Settings) -> Callable[[str], Trained]:
    """Name of a set -> the checker without it; sets that no regression was fitted to have one together."""
    opened = cache(lambda name: open_checker(settings, name))
    return lambda name: opened(name if name in BLEND else "")


def _given(settings: Settings, path: Path, format: str, system: str) -> importers.AnswerSet:
    """The answers of a file, or, where there is none of that name, of a run."""
    if not path.is_file() and (path.is_dir() or (settings.home / "runs" / path / RUN).exists()):
        return importers.answers_of(read_run(str(path), settings), system)
    return importers.read_answers(path, format)


def _begin(settings: Settings, kind: str, made: Mapping[str, Any], name: str | None, fresh: bool) -> Run:
    """A run under the home directory; one without a name replaces a finished one made with the same."""
    return Run.begin(settings.home / "runs" / (name or name_of(kind, made)), kind, made, fresh, again=name is None)
