"""The whole configuration: one tree of frozen models. `file` reads it from YAML."""

from tokenmill.pipeline.recipe.dedup import Dedup
from tokenmill.pipeline.recipe.filters import Filter, Percentile
from tokenmill.pipeline.recipe.mixture import MixtureRecipe, Strata
from tokenmill.pipeline.recipe.source import Columns, Gates, Language, Source, source_root
from tokenmill.pipeline.recipe.tokens import Sequences, Template, Tokenizer, TrainTokenizer
from tokenmill.pipeline.recipe.tree import Recipe

__all__ = [
    "Columns",
    "Dedup",
    "Filter",
    "Gates",
    "Language",
    "MixtureRecipe",
    "Percentile",
    "Recipe",
    "Sequences",
    "Source",
    "Strata",
    "Template",
    "Tokenizer",
    "TrainTokenizer",
    "source_root",
]
