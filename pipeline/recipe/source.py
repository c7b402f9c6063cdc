"""A source: one stream of raw shards, what it is gated by, and what is asked of its documents."""

import os.path
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.pipeline.groups import GROUPS
from tokenmill.pipeline.recipe.chat import Chat
from tokenmill.pipeline.recipe.filters import Filter
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.recipe.strict import Fraction, Strict

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

#: What a crawl record must be for its page to be read at all.
WEB_MIME = ("text/html", "application/xhtml+xml", "text/plain")


class Gates(Strict):
    """Bounds decided before anything dearer: a gated row keeps its place and its reason, not its text."""

    max_record_bytes: ByteSize | None = ByteSize(16 << 20)
    mime: tuple[str, ...] | None = None
    http_status: tuple[int, ...] | None = None
    url_blocklist: tuple[str, ...] | None = None  # folders of UT1's form, with files `domains` and `urls`
    url_words: tuple[str, ...] | None = None  # files with one word a line
    min_characters: int | None = None
    max_characters: int | None = None
    languages: tuple[str, ...] | None = None
    min_language_score: Fraction | None = None
    sample_fraction: Fraction = 0.001


class Language(Strict):
    """Language identification: signals for every document, and what is kept."""

    model: str = "py3langid"  # or auto, or the path of a fastText model
    keep: tuple[str, ...] | None = None
    min_score: Fraction | None = None
    max_other_language_fraction: Fraction | None = None
    prefix_bytes: int = Field(default=4096, ge=64)


class Columns(Strict):
    """Names of the columns (Parquet) or keys (JSONL) to read."""

    text: str | None = None
    url: str | None = None
    date: str | None = None
    licence: str | None = None
    repository: str | None = None
    path: str | None = None


_ONLY_FOR = {
    "extractor": ("warc",),
    "columns": ("jsonl", "parquet", "code", "chat"),
    "chat": ("chat",),
    "regenerate": ("chat",),
    "extensions": ("code",),
    "licence": ("code",),
}


class Source(Strict):
    """One stream of raw shards and what is asked of its documents."""

    name: str
    reader: Literal["warc", "wet", "jsonl", "parquet", "code", "chat"]
    paths: tuple[str, ...] = Field(min_length=1)
    root: str | None = None
    extractor: Literal["resiliparse", "trafilatura"] = "resiliparse"
    record_timeout_s: float = Field(default=60, gt=0)
    columns: Columns = Columns()
    chat: Chat = Chat()
    extensions: tuple[str, ...] | None = None
    licence: str | None = None
    part_bytes: ByteSize | None = None
    gates: Gates = Gates()
    language: Language | None = None
    filters: tuple[Filter, ...] = ()
    priority: int = 0
    regenerate: Regenerate | None = None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise PydanticCustomError("name", "a name is lower-case letters, digits, '_' and '-': it names folders")
        return value

    @model_validator(mode="before")
    @classmethod
    def _web_gates(cls, value: Any) -> Any:
        """Crawl records are gated on MIME type and status unless the recipe says otherwise."""
        if isinstance(value, Mapping) and value.get("reader") == "warc":
            gates = value.get("gates")
            defaults = {"mime": WEB_MIME, "http_status": (200,)}
            if gates is None or isinstance(gates, Mapping):
                return {**value, "gates": {**defaults, **(gates or {})}}
        return value

    @model_validator(mode="after")
    def _each_filter_once(self) -> "Source":
        groups = [entry.group for entry in self.filters]
        for group in groups:
            if groups.count(group) > 1:
                hint = ": give each a `name`" if group.startswith(("classifier.", "datatrove.")) else ""
                raise PydanticCustomError(
                    "filter", "filter {group} stands twice in one source{hint}", {"group": group, "hint": hint}
                )
        return self

    @model_validator(mode="after")
    def _languages_are_known(self) -> "Source":
        """Words and bounds of a document's language want its language."""
        told = self.language is not None or self.gates.languages is not None
        for entry in self.filters:
            if entry.per_language and not told and self.gates.min_language_score is None:
                message = "filter {group} has `per_language`, and nothing tells the languages: add `language: {{}}`"
                raise PydanticCustomError("filter", message.replace("{{}}", "{}"), {"group": entry.group})
        return self

    @model_validator(mode="after")
    def _settings_fit_the_reader(self) -> "Source":
        """A setting that the reader would not look at is a mistake, not a wish."""
        for key, readers in _ONLY_FOR.items():
            if key in self.model_fields_set and self.reader not in readers:
                raise PydanticCustomError(
                    "reader",
                    "`{key}` says nothing to reader {reader}, only to {readers}: take it out",
                    {"key": key, "reader": self.reader, "readers": ", ".join(readers)},
                )
        return self

    @model_validator(mode="after")
    def _turns_are_the_text(self) -> "Source":
        if self.reader == "chat" and self.columns.text is not None:
            message = "the text of a conversation is its turns: name their column in `chat: {columns: …}`"
            raise PydanticCustomError("columns", message)
        return self

    @model_validator(mode="after")
    def _groups_of_turns_have_turns(self) -> "Source":
        for entry in self.filters:
            if self.reader != "chat" and entry.group in GROUPS and GROUPS[entry.group].by_turns:
                message = "filter {group} looks at turns, which reader {reader} does not find: take it out"
                raise PydanticCustomError("filter", message, {"group": entry.group, "reader": self.reader})
            if self.reader != "chat" and entry.bounds.get("max_answer_hits") is not None:
                message = "{group}.max_answer_hits is of answers, which reader {reader} does not find: take it out"
                raise PydanticCustomError("filter", message, {"group": entry.group, "reader": self.reader})
        return self

    @model_validator(mode="after")
    def _urls_are_known(self) -> "Source":
        """URL gates want URLs: a crawl's records have them, tables only in a column that the recipe names."""
        for key in ("url_blocklist", "url_words"):
            if getattr(self.gates, key) is not None and self.reader not in ("warc", "wet") and self.columns.url is None:
                hint = "take it out" if self.reader == "code" else "name its column, `columns: {url: …}`"
                message = "gates.{key} looks at URLs, and this source has none: {hint}"
                raise PydanticCustomError("gates", message, {"key": key, "hint": hint})
        return self

    @property
    def language_model(self) -> str:
        """The model by which languages are told, be it for a gate alone."""
        return self.language.model if self.language is not None else "py3langid"


def source_root(source: Source) -> str:
    """The folder that a source's paths are relative to: its `root`, or what its patterns share before a glob."""
    if source.root is not None:
        return source.root.rstrip("/")
    heads = [_static_folder(pattern) for pattern in source.paths]
    return os.path.commonpath(heads) if len(heads) > 1 and "://" not in heads[0] else _common_prefix(heads)


def _static_folder(pattern: str) -> str:
    parts = pattern.split("/")
    static = next((index for index, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
    return "/".join(parts[:static])


def _common_prefix(folders: list[str]) -> str:
    split = [folder.split("/") for folder in folders]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "/".join(common) or str(PurePosixPath("."))
