"""`tokenmill demo`: the main job on data every computer with Python has."""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from tokenizers import Tokenizer

from tokenmill.pipeline.demo.raw_shards import make_code_shard, make_web_shard
from tokenmill.pipeline.loader import MaskedBatch, open_mixture
from tokenmill.pipeline.progress import Reporter, reporter
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.sheet import people_console, print_sheet
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

#: The demo is no demo when its filters leave less.
MIN_KEPT_PAGES = 50
_FOLDER = "${TOKENMILL_DEMO:-out/demo}"
_SHOWN_TOKENS = 48


def run_demo(output: str, run: Callable[[RecipeFile], Published], quiet: bool = False) -> None:
    """Make raw shards, write the recipe beside the output, run it, and show what came out.

    Args:
        output: folder to write to.
        run: runs a recipe into that folder.
        quiet: show no progress.

    Raises:
        RuntimeError: the recipe kept fewer than 50 pages.
    """
    folder, console = Path(output), people_console()
    folder.mkdir(parents=True, exist_ok=True)
    with reporter(quiet) as show:
        make_raw_shards(folder / "raw", show)
    recipe = folder / "recipe.yaml"
    text = (files("tokenmill.pipeline.demo") / "recipe.yaml").read_text(encoding="utf-8").replace(_FOLDER, output)
    Storage(output).write("recipe.yaml", text.encode())
    published = run(load_recipe(text, str(recipe)))
    print_sheet(published, console)
    kept = published.value["balance"]["pages"]["steps"]["deduplicate"]["out"][0]
    if kept < MIN_KEPT_PAGES:
        raise RuntimeError(f"the demo's recipe kept {kept} pages, fewer than {MIN_KEPT_PAGES}: see {recipe}")
    show_first_batch(output, console)
    console.print(
        f"\nThe recipe is {recipe}; change a bound in it and run `tokenmill run {recipe}`: only what depends on it is "
        f"redone.\nThe books: `tokenmill audit {output} --recount`; the bytes: `tokenmill verify {output}`.",
        highlight=False,
    )


def make_raw_shards(folder: Path, show: Reporter) -> None:
    """The two raw shards, where they are not there yet (each bears its name only once it is whole)."""
    for name, make in (("pages.warc.gz", make_web_shard), ("stdlib.tar.gz", make_code_shard)):
        if not (folder / name).exists():
            make(folder / name, partial(show.step, name))


def show_first_batch(output: str, console: Console) -> None:
    """Open the mixture as a trainer would, and print its first batch."""
    loader = open_mixture(output, batch_size=8)
    batch = next(iter(loader))
    assert isinstance(batch, MaskedBatch)
    console.print("\nthe first batch, as the LLaDA objective sees it", style="bold")
    masked, maskable = int(batch.masked.sum()), int(batch.maskable.sum())
    console.print(
        f"clean {batch.clean.shape} {batch.clean.dtype}, masked {masked:,} of {maskable:,} tokens, "
        f"Σ weight / maskable = {batch.loss_weight.sum() / maskable:.3f} (1 in the mean)",
        highlight=False,
    )
    storage = Storage(output)
    tokenizer = Tokenizer.from_buffer(storage.read(loader.plan.mixture.tokenizer_path))
    for row in range(2):
        name = batch.component_names[batch.component[row]]
        console.print(f"\nrow {batch.rows[row]} of {name}, p = {batch.mask_probability[row, 0]:.3f}", style="bold")
        console.print(_readable(tokenizer, batch.noisy[row], batch.masked[row]), highlight=False, markup=False)


def _readable(tokenizer: Tokenizer, tokens: npt.NDArray[np.int64], masked: npt.NDArray[np.bool_]) -> str:
    """The first tokens of a row as text, ▒ where a token is masked."""
    shown = [
        "▒" if hidden else tokenizer.decode([int(token)], skip_special_tokens=False)
        for token, hidden in zip(tokens[:_SHOWN_TOKENS], masked[:_SHOWN_TOKENS], strict=True)
    ]
    return "".join(shown) + " …"
