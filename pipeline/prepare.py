"""Before any work: find the raw files, check what can be checked, plan."""

import json
from typing import Any

from tokenmill.filters.labels import names_language
from tokenmill.pipeline.benchmarks import open_benchmarks
from tokenmill.pipeline.chat.tokens import ChatEncoder
from tokenmill.pipeline.classifier.model import CLASSIFIERS, open_classifier
from tokenmill.pipeline.datatrove_adapter import GUEST, check_step
from tokenmill.pipeline.earlier_runs import earlier_parts
from tokenmill.pipeline.language_model import Identifier, load_language_model
from tokenmill.pipeline.plan import Part, find_files, plan_parts
from tokenmill.pipeline.recipe.file import RecipeFile
from tokenmill.pipeline.recipe.filters import CONTAMINATION
from tokenmill.pipeline.steps.pack import token_policy
from tokenmill.pipeline.steps.publish import latest, manifest_table
from tokenmill.pipeline.steps.template import read_template
from tokenmill.pipeline.steps.tokenizer import read_tokenizer
from tokenmill.pipeline.storage import Storage, content_hash, open_url
from tokenmill.pipeline.survivor import check_policy
from tokenmill.pipeline.tokens.encode import Encoder
from tokenmill.pipeline.url_lists import source_url_rules


def prepare(recipe_file: RecipeFile, storage: Storage) -> list[Part]:
    """Check everything that can be checked before any work, and plan.

    Raises:
        RecipeError: a glob that matches nothing, a tokenizer that is not there or lacks a token the recipe names, a
            chat template that is not there or none, a language model, classifier or benchmark that cannot be read, a
            language or label that the model does not know, a survivor policy that asks for a signal nobody measures,
            an earlier run that is not there or was made with other parameters.
    """
    recipe = recipe_file.recipe
    if recipe.tokenizer.path is not None:
        try:
            Encoder(read_tokenizer(recipe), token_policy(recipe))
        except FileNotFoundError:
            message = f"no file {recipe.tokenizer.path!r}; give a tokenizer.json, or `train`"
            raise recipe_file.error(("tokenizer", "path"), message) from None
        except ValueError as error:
            raise recipe_file.error(("tokenizer", "path"), str(error)) from error
    _check_template(recipe_file)
    _check_languages(recipe_file)
    _check_guests(recipe_file)
    _check_classifiers(recipe_file)
    _check_benchmarks(recipe_file)
    _check_url_lists(recipe_file)
    _check_survivor(recipe_file)
    _check_against(recipe_file, storage)
    memory = FileMemory(storage)
    files = {source.name: find_files(recipe_file, index, memory.version) for index, source in enumerate(recipe.sources)}
    memory.save()
    published = latest(storage)
    earlier = manifest_table(storage, published, "plan") if published is not None else None
    return plan_parts(recipe, files, earlier)


def _check_template(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a chat template that is not there or is none."""
    recipe = recipe_file.recipe
    if not recipe.sequences.of_conversations:
        return
    try:
        template = read_template(recipe)
        if recipe.tokenizer.path is not None:
            ChatEncoder(read_tokenizer(recipe), template, token_policy(recipe))
    except FileNotFoundError:
        assert recipe.template is not None
        message = f"no file {recipe.template.path!r}; give a template's path, or its `text`"
        raise recipe_file.error(("template", "path"), message) from None
    except ValueError as error:
        raise recipe_file.error(("template",), str(error)) from error


def _check_languages(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a model that is none, or a language it does not know: nothing would be kept for it."""
    for index, source in enumerate(recipe_file.recipe.sources):
        if source.language is None and source.gates.languages is None:
            continue
        model = _source_model(recipe_file, index)
        keep = source.language.keep if source.language is not None else None
        for location, asked in (("gates", "languages"), source.gates.languages), (("language", "keep"), keep):
            for code in asked or ():
                if not any(names_language(code, label) for label in model.labels):
                    known = " ".join(sorted(set(model.labels)))
                    message = f"no language {code!r} in the model {model.name}; it knows {known}"
                    raise recipe_file.error(("sources", index, *location), message)


def _check_url_lists(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a list of URLs or words that is not there or is none."""
    for index, source in enumerate(recipe_file.recipe.sources):
        try:
            source_url_rules(source.gates)
        except (FileNotFoundError, ValueError) as error:
            raise recipe_file.error(("sources", index, "gates"), str(error)) from error


def _check_survivor(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a signal of the survivor policy that nobody measures."""
    try:
        check_policy(recipe_file.recipe)
    except ValueError as error:
        raise recipe_file.error(("dedup", "survivor"), str(error)) from error


def _check_against(recipe_file: RecipeFile, storage: Storage) -> None:
    """Raise RecipeError for an earlier run that is not there, or was made otherwise than this one is to be."""
    try:
        earlier_parts(recipe_file.recipe, storage)
    except ValueError as error:
        raise recipe_file.error(("dedup", "against"), str(error)) from error


def _check_guests(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a datatrove step that is not there or does not take its arguments."""
    for index, source in enumerate(recipe_file.recipe.sources):
        for at, entry in enumerate(source.filters):
            if entry.group.startswith(GUEST):
                try:
                    check_step(entry.params["step"], entry.params["args"])
                except ValueError as error:
                    raise recipe_file.error(("sources", index, "filters", at, "step"), str(error)) from error


def _check_classifiers(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a classifier that is not there, cannot be read or lacks the label."""
    for index, source in enumerate(recipe_file.recipe.sources):
        for at, entry in enumerate(source.filters):
            if entry.group.startswith(CLASSIFIERS):
                path, location = entry.params["model"], ("sources", index, "filters", at, "model")
                try:
                    open_classifier(path, entry.params["label"])
                except (FileNotFoundError, IsADirectoryError):
                    message = f"no file {path!r}; give a model that `tokenmill classifier train` wrote, or another .bin"
                    raise recipe_file.error(location, message) from None
                except ValueError as error:
                    raise recipe_file.error(location, str(error)) from error


def _check_benchmarks(recipe_file: RecipeFile) -> None:
    """Raise RecipeError for a benchmark that is not there, cannot be read or has no item to look for."""
    for index, source in enumerate(recipe_file.recipe.sources):
        for at, entry in enumerate(source.filters):
            if entry.group == CONTAMINATION:
                try:
                    open_benchmarks(entry.params)
                except ValueError as error:
                    raise recipe_file.error(("sources", index, "filters", at, "benchmarks"), str(error)) from error


def _source_model(recipe_file: RecipeFile, index: int) -> Identifier:
    source = recipe_file.recipe.sources[index]
    try:
        return load_language_model(source.language_model)
    except (FileNotFoundError, IsADirectoryError):
        message = f"no file {source.language_model!r}; give py3langid, auto or the path of a fastText model"
        raise recipe_file.error(("sources", index, "language", "model"), message) from None
    except ValueError as error:
        raise recipe_file.error(("sources", index, "language", "model"), str(error)) from error


class FileMemory:
    """Content hashes of local raw files by (path, size, modification time), so that a rerun need not read them."""

    PATH = "logs/raw-files.json"

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        there = self.PATH in storage.sizes("logs")
        self._known: dict[str, list[Any]] = json.loads(storage.read(self.PATH)) if there else {}
        self._seen: dict[str, list[Any]] = {}

    def version(self, url: str, size: int, modified: float) -> str:
        """Content hash of a file, read only when it is new or has changed."""
        known = self._known.get(url)
        if known is not None and known[:2] == [size, modified]:
            digest = str(known[2])
        else:
            with open_url(url) as file:
                digest = content_hash(file)[1]
        self._seen[url] = [size, modified, digest]
        return digest

    def save(self) -> None:
        """Remember for the next run."""
        if self._seen != self._known:
            self._storage.write(self.PATH, json.dumps(self._seen).encode())
