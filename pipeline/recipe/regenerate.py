"""How a source's answers are asked anew: of which endpoint, how often, and which answer is taken."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.filters.classifier import POSITIVE
from tokenmill.pipeline.recipe.strict import Fraction, Strict
from tokenmill.pipeline.regenerate.checkers import Checker

#: Keys of a request that are not among `parameters`.
_OURS = ("model", "messages", "tools", "temperature", "top_p", "max_tokens", "seed", "n", "stream")
_OF_CHOOSER = {
    "verifiable": ("checker", "checkers"),
    "classifier": ("model", "label", "max_bytes", "min_score"),
    "first": (),
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Choose(Strict):
    """Which of a prompt's answers is taken; of equal ones that of the lowest sample number.

    Attributes:
        by: "first"; "verifiable": the first that is right; "classifier": the one with the best score.
        checker: of prompts whose data names none.
        checkers: ours by names that the data has for them, such as `math: number`.
        model: a fastText model; scores the answer's text.
        label: whose score it is.
        max_bytes: of each answer, that are scored.
        min_score: a prompt whose best answer has less is dropped.
    """

    by: Literal["first", "verifiable", "classifier"] = "first"
    checker: Checker | None = None
    checkers: dict[str, Checker] = Field(default_factory=dict)
    model: str | None = None
    label: str = POSITIVE
    max_bytes: int | None = Field(default=None, gt=0)
    min_score: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """`choose: first` is `choose: {by: first}`."""
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _settings_fit(self) -> "Choose":
        for key in sorted(self.model_fields_set - {"by", *_OF_CHOOSER[self.by]}):
            raise PydanticCustomError(
                "choose", "`{key}` says nothing to `by: {by}`: take it out", {"key": key, "by": self.by}
            )
        if self.by == "classifier" and self.model is None:
            message = "`by: classifier` wants a fastText model: add `model: path.bin` (`tokenmill classifier train`)"
            raise PydanticCustomError("choose", message)
        return self


class Regenerate(Strict):
    """An OpenAI-compatible endpoint, what is asked of it and how.

    Attributes:
        endpoint: its base, such as http://127.0.0.1:8000/v1; requests go to `/chat/completions` below it.
        model: the name of a model there.
        samples: answers a prompt, each asked by a request of its own.
        temperature: of the request; null: not named, the endpoint's default holds. So with the next three.
        top_p: as above.
        max_tokens: as above.
        seed: as above; sample k is asked with seed + k.
        parameters: more keys of the request, such as `top_k: 20`, passed on as they are.
        concurrency: requests under way at once.
        timeout_s: of one try.
        retries: after the first try.
        api_key_env: name of the environment variable that holds the key, which is never written anywhere.
        keep_cut_off: whether an answer that ended at `max_tokens` may be chosen.
        ledger: folder or URL of requests and answers; runs may share one. By default beside the answers.
        choose: which answer is taken.
    """

    endpoint: str
    model: str = Field(min_length=1)
    samples: int = Field(default=1, ge=1, le=1024)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=0, ge=0, lt=1 << 62)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    concurrency: int = Field(default=16, ge=1, le=4096)
    timeout_s: float = Field(default=300, gt=0)
    retries: int = Field(default=5, ge=0, le=100)
    api_key_env: str | None = None
    keep_cut_off: bool = False
    ledger: str | None = None
    choose: Choose = Choose()

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            message = "{url} is no base URL; give one such as http://127.0.0.1:8000/v1"
            raise PydanticCustomError("endpoint", message, {"url": repr(value)})
        if parts.username is not None or parts.password is not None:
            message = "a recipe is kept with the run, so no password goes into it: name a variable, `api_key_env: …`"
            raise PydanticCustomError("endpoint", message)
        if parts.path.rstrip("/").endswith("/chat/completions"):
            message = "leave out /chat/completions, which is added: give what comes before it"
            raise PydanticCustomError("endpoint", message)
        return value.rstrip("/")

    @field_validator("parameters")
    @classmethod
    def _not_ours(cls, value: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        for key in value:
            if key in _OURS:
                hint = "every sample is a request of its own" if key in ("n", "stream") else "name it outside"
                raise PydanticCustomError(
                    "parameters", "`{key}` is no parameter to pass on: {hint}", {"key": key, "hint": hint}
                )
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            message = "parameters must be JSON: {error}"
            raise PydanticCustomError("parameters", message, {"error": str(error)}) from error
        return value

    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            message = "this is the name of an environment variable, such as OPENAI_API_KEY, not the key itself"
            raise PydanticCustomError("api_key_env", message)
        return value

    @property
    def asked(self) -> dict[str, Any]:
        """What each request holds beside messages, tools and seed."""
        told = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {"model": self.model, **{k: v for k, v in told.items() if v is not None}, **self.parameters}
