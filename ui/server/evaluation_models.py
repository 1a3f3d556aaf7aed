"""The shapes of what the API says about evaluations, with examples. Knows nothing about where it comes from."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ui.server.evaluations import State

EVALUATION: dict[str, Any] = {
    "id": "leases-answers-20270601-093000",
    "kind": "answers",
    "set": "leases",
    "state": "finished",
    "who": "ana",
    "started": "2027-06-01T09:30:00+00:00",
    "changed": "2027-06-01T09:52:10.250+00:00",
    "questions": 120,
    "done": 120,
    "failed": 0,
    "stage": "",
    "eta": None,
    "figures": {
        "faithfulness": {"value": 0.91, "low": 0.87, "high": 0.95},
        "correctness": {"value": 0.62, "low": 0.53, "high": 0.7},
        "contains": {"value": 0.58, "low": 0.49, "high": 0.67},
        "abstention": {"value": 0.18, "low": 0.12, "high": 0.25},
    },
    "error": "",
}
RUNNING: dict[str, Any] = {
    **EVALUATION,
    "state": "running",
    "done": 30,
    "stage": "answering",
    "eta": 1020.0,
    "figures": {},
}
AGREEMENT: dict[str, Any] = {
    "source": "measured when this checker was made, on claims that people labelled",
    "evaluation": "",
    "sets": [
        {
            "name": "factcheck-gpt",
            "claims": 3098,
            "figures": {"auroc": {"value": 0.796, "low": 0.78, "high": 0.82}},
        }
    ],
}


def _like(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Interval(BaseModel):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Evaluation(BaseModel):
    """A run of questions, or what is to become one; the data of events `progress` and `end`."""

    model_config = _like(EVALUATION, RUNNING)

    id: str
    kind: str = Field(description="`answers`, or what the command line measured: `retrieval`, `judge` and so on.")
    set: str = Field(description="The name or path of what is asked; of a run of the command line, the data set.")
    state: State = Field(description="`unfinished` where it was stopped or cut off: start the same again to go on.")
    who: str = Field(description="Who started it; empty where nobody has to sign in.")
    started: str = Field(description="ISO 8601, UTC; empty where the command line made it.")
    changed: str = Field(description="When its last result was written.")
    questions: int | None = Field(description="How many there are; null where that is not known.")
    done: int
    failed: int = Field(description="Questions that ended with an error; they count as answered wrongly.")
    stage: str = Field(description="What goes on while it runs.")
    eta: float | None = Field(description="Seconds left; null as long as nobody can tell.")
    figures: dict[str, Interval] = Field(
        description="Of a finished one: `faithfulness`, `correctness`, `contains` and `abstention`, "
        "or the main figure of another kind."
    )
    error: str = Field(description="Why a failed one failed.")


class Evaluations(BaseModel):
    """All runs that are kept, the one that was written last first."""

    model_config = _like({"evaluations": [EVALUATION]})

    evaluations: list[Evaluation]


class KnownSet(BaseModel):
    """What can be asked, by its name."""

    name: str
    questions: int = Field(description="Of `feedback`, verdicts; some make no question.")


class KnownSets(BaseModel):
    """The sets of the server's home directory, and `feedback` where there is any."""

    model_config = _like({"sets": [{"name": "leases", "questions": 120}, {"name": "feedback", "questions": 14}]})

    sets: list[KnownSet]


class SetAgreement(BaseModel):
    """How far the checker agrees with people on one set of labelled claims."""

    name: str
    claims: int | None = Field(description="null for the mean over the sets.")
    figures: dict[str, Interval] = Field(
        description="`auroc`, `balanced_accuracy`, `f1_unsupported`, and `calibration_error`, which is better lower."
    )


class Agreement(BaseModel):
    """How far the checker behind faithfulness agrees with people."""

    model_config = _like(AGREEMENT)

    source: str = Field(description="Where the figures come from.")
    evaluation: str = Field(description="The run that they are of; empty where they came with Footnote.")
    sets: list[SetAgreement] = Field(description="Empty where nobody measured this checker.")


class Order(BaseModel):
    """What to measure: a set by its name, or by its place."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"set": "leases", "limit": 50}, {"set": "feedback"}]}
    )

    set: str = Field("", max_length=255, description="A name that `GET /api/v1/evaluations/sets` lists.")
    path: str = Field(
        "", max_length=4096, description="Or an absolute path, for programs of the server's own machine alone."
    )
    limit: int | None = Field(None, ge=1, description="Ask so many of the questions only, evenly spread.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Order:
        if bool(self.set) == bool(self.path):
            raise ValueError("give `set` or `path`, one of both")
        return self
