"""Regenerate the sources of a run that ask for it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenmill.pipeline.diff_recipes import recipe_differences
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.progress import Now, Reporter
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.recipe.source import Source
from tokenmill.pipeline.regenerate.asking import Pace, ask_all
from tokenmill.pipeline.regenerate.choosing import chooser_of
from tokenmill.pipeline.regenerate.endpoint import Endpoint
from tokenmill.pipeline.regenerate.erased import FOLDER, LEDGER
from tokenmill.pipeline.regenerate.ledger import Ledger
from tokenmill.pipeline.regenerate.plan import Plan, plan_requests
from tokenmill.pipeline.regenerate.prompts import prompt_parts
from tokenmill.pipeline.regenerate.written import write_chosen
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

#: Keys of a recipe that say which documents are kept, and what of them is asked.
_DECIDES = re.compile(r"seed|part_bytes|dedup|sources")
_OWN = re.compile(r"sources\.[^.]+\.regenerate(\..*)?")


@dataclass(frozen=True)
class Regenerated:
    """What came of a source.

    Attributes:
        folder: of its answers.
        before: requests that the ledger had an answer to.
        asked: requests that were sent, or that would be.
        value: what its marker says; None where nothing was to be asked or written.
    """

    folder: str
    before: int
    asked: int
    value: Mapping[str, Any] | None


def regenerate(
    recipe_file: RecipeFile, storage: Storage, show: Reporter, environ: Mapping[str, str], dry_run: bool = False
) -> dict[str, Regenerated]:
    """Ask and choose for each source with `regenerate`.

    Args:
        recipe_file: of the run.
        storage: its folder.
        show: told how far it is.
        environ: has the endpoints' keys.
        dry_run: only find out what would be asked.

    Returns:
        What came of each, by name.

    Raises:
        ValueError: no source asks for it, the run is not published or was made by another recipe, a prompt wants a
            checker that there is not, or (`EndpointError`) an endpoint is gone.
    """
    sources = [source for source in recipe_file.recipe.sources if source.regenerate is not None]
    if not sources:
        raise ValueError(f"no source in {recipe_file.where} has `regenerate: {{endpoint: …, model: …}}`")
    published = published_or_error(storage)
    _check_recipe(recipe_file, published)
    made_by = load_recipe(published.value["recipe"], f"the recipe in {published.path}")
    units = open_units(storage, published, made_by.recipe)
    # what is wrong with any of them is known before anything is asked
    choosers = [chooser_of(source.regenerate.choose) for source in sources if source.regenerate is not None]
    plans = [_plan(storage, units, source, show) for source in sources]
    return {
        source.name: _regenerate(source, plan, published, show, environ, None if dry_run else chooser)
        for source, plan, chooser in zip(sources, plans, choosers, strict=True)
    }


def _plan(storage: Storage, units: OpenedUnits, source: Source, show: Reporter) -> Plan:
    assert source.regenerate is not None
    try:
        return plan_requests(storage, source.regenerate, prompt_parts(storage, units, source), source.name, show)
    except ValueError as error:
        raise ValueError(f"source {source.name}: {error}") from error


def _regenerate(
    source: Source,
    plan: Plan,
    published: Published,
    show: Reporter,
    environ: Mapping[str, str],
    chooser: Callable[..., Any] | None,
) -> Regenerated:
    settings = plan.settings
    output = Storage(plan.storage.url(f"{FOLDER}/{source.name}"))
    ledger = Ledger(Storage(settings.ledger or output.url(LEDGER)))
    known, every = ledger.known(), plan.every_request
    lacking = plan.lacking(known)
    before = len(every.unique()) - len(lacking)
    if chooser is None:
        return Regenerated(output.root, before, len(lacking), None)
    if lacking:
        total = len(lacking)

        def told(pace: Pace) -> None:
            also = f"{pace.tokens_per_s:,.0f} tokens/s" if pace.tokens_per_s else ""
            show.step(f"ask for {source.name}", pace.done, total, Now(pace.running, pace.failed, also=also))

        ask_all(settings, Endpoint(settings, environ), ledger, plan.asks(lacking), told)
    head = {"run": published.path, "settings": _settings(source)}
    value = write_chosen(output, plan, ledger, chooser, head, source.name, show)
    return Regenerated(output.root, before, len(lacking), value)


def _settings(source: Source) -> dict[str, Any]:
    """What of the settings the answers depend on: not where or how fast they were asked."""
    assert source.regenerate is not None
    others = {"endpoint", "concurrency", "timeout_s", "retries", "api_key_env", "ledger"}
    return source.regenerate.model_dump(mode="json", exclude=others)


def _check_recipe(recipe_file: RecipeFile, published: Published) -> None:
    """Refuse a recipe by which other documents would be kept than the run has."""
    differing = recipe_differences(published.value["recipe"], recipe_file.text)
    told = [key for key, _, _ in differing if _DECIDES.match(key) and not _OWN.fullmatch(key)]
    if told:
        raise ValueError(
            f"{recipe_file.where} is not what the run was made with ({_listed(told)} differ): run it first, "
            f"`tokenmill run {recipe_file.where}`, so that what is asked is what it keeps"
        )


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
