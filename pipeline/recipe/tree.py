"""The whole recipe, and what has to hold between its parts."""

import difflib

from pydantic import ByteSize, Field, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.pipeline.recipe.dedup import Dedup
from tokenmill.pipeline.recipe.mixture import MixtureRecipe, Strata
from tokenmill.pipeline.recipe.source import Source
from tokenmill.pipeline.recipe.strict import Strict
from tokenmill.pipeline.recipe.tokens import Sequences, Template, Tokenizer


class Recipe(Strict):
    """The whole recipe."""

    name: str
    output: str = "out"
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    part_bytes: ByteSize = ByteSize(64 << 20)
    tokenizer: Tokenizer
    sources: tuple[Source, ...]
    dedup: Dedup = Dedup()
    strata: Strata = Strata()
    template: Template | None = None
    sequences: Sequences
    mixture: MixtureRecipe = MixtureRecipe()

    @model_validator(mode="after")
    def _lines_are_counted_alike(self) -> "Recipe":
        """What is counted over the whole run is one thing in all its sources."""
        asked = [
            (source.name, entry.params)
            for source in self.sources
            for entry in source.filters
            if entry.group == "repeated_lines" and entry.params["scope"] == "run"
        ]
        for name, params in asked[1:]:
            if params != asked[0][1]:
                raise PydanticCustomError(
                    "filter",
                    "repeated_lines with `scope: run` differs in {one} and {other}: give both the same, or one of them "
                    "`scope: source`",
                    {"one": asked[0][0], "other": name},
                )
        return self

    @model_validator(mode="after")
    def _copies_are_counted(self) -> "Recipe":
        bounds = self.strata.copies_bounds
        if unknown := [size for size in self.mixture.rehydrate if size not in (bounds or ())]:
            message = "mixture.rehydrate weighs clusters from {sizes} documents on, but {found}"
            found = f"strata.copies is {list(bounds)}" if bounds else "strata are not by copies: `by: [copies]`"
            raise PydanticCustomError("rehydrate", message, {"sizes": ", ".join(map(str, unknown)), "found": found})
        if bounds and not (self.dedup.exact or self.dedup.near):
            message = "strata are by copies, which nothing counts: dedup.exact and dedup.near are off; turn one on"
            raise PydanticCustomError("strata", message)
        return self

    @model_validator(mode="after")
    def _quality_is_measured(self) -> "Recipe":
        quality = self.strata.quality
        groups = {entry.group for source in self.sources for entry in source.filters}
        if quality is not None and quality.group not in groups:
            message = "strata.quality reads signal {signal}, whose group no source measures; its filters are {known}"
            known = ", ".join(sorted(groups)) or "none"
            raise PydanticCustomError("strata", message, {"signal": quality.signal, "known": known})
        return self

    @model_validator(mode="after")
    def _rows_hold_what_is_read(self) -> "Recipe":
        """Conversations have their own layouts, and nothing else has them."""
        layout = self.sequences.layout
        other = [source for source in self.sources if (source.reader == "chat") != self.sequences.of_conversations]
        if other and self.sequences.of_conversations:
            message = (
                "rows of layout {layout} hold conversations, source {source} has reader {reader}: take reader chat"
            )
            values = {"layout": layout, "source": other[0].name, "reader": other[0].reader}
            raise PydanticCustomError("sequences", message, values)
        if other:
            message = "source {source} reads conversations, which want `sequences: {layouts}`"
            values = {"source": other[0].name, "layouts": "{layout: concat}` or `{layout: dialogue}"}
            raise PydanticCustomError("sequences", message, values)
        if self.dedup.of != "text" and not self.sequences.of_conversations:
            message = "dedup.of is {of}, which only conversations have, and no source reads any: take it out"
            raise PydanticCustomError("dedup", message, {"of": self.dedup.of})
        if self.template is not None and not self.sequences.of_conversations:
            message = "`template` is of conversations, and no source reads any: take it out"
            raise PydanticCustomError("template", message)
        if self.sequences.of_conversations and self.tokenizer.path is None:
            template = self.template
            if template is None or (template.path is None and template.text is None):
                message = "beside a tokenizer that is trained here lies no chat template: `template: {path: …}`"
                raise PydanticCustomError("template", message)
        return self

    @model_validator(mode="after")
    def _lengths_come_in_batches(self) -> "Recipe":
        if self.sequences.buckets and self.mixture.batch_size is None:
            message = (
                "a global batch has rows of one length of your `buckets`: say how many rows, such as `mixture: "
                "{example}`; the trainer's batch_size must divide that"
            )
            raise PydanticCustomError("mixture", message, {"example": "{batch_size: 256}"})
        if self.mixture.batch_size is not None and not self.sequences.buckets:
            message = "mixture.batch_size is for rows of several lengths, and there are no `sequences: {buckets}`"
            raise PydanticCustomError("mixture", message, {"buckets": "{buckets: …}"})
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> "Recipe":
        names = [source.name for source in self.sources]
        if not names:
            raise PydanticCustomError("sources", "a recipe needs at least one source", {})
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError("sources", "two sources are named {name!r}", {"name": name})
        for component in self.mixture.weights:
            if component.split("/", 1)[0] not in names:
                near = difflib.get_close_matches(component, names, n=1, cutoff=0.0)[0]
                raise PydanticCustomError(
                    "weights",
                    "mixture.weights names '{component}', which is no source: did you mean '{near}'?",
                    {"component": component, "near": near},
                )
        unweighted = [name for name in names if name not in {key.split("/", 1)[0] for key in self.mixture.weights}]
        if self.mixture.weights and unweighted:
            raise PydanticCustomError(
                "weights",
                "mixture.weights leaves out {names}: give each source a weight, or none at all (then by tokens)",
                {"names": ", ".join(unweighted)},
            )
        return self

    def source(self, name: str) -> Source:
        """The source of that name."""
        return next(source for source in self.sources if source.name == name)
