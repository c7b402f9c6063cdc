"""`tokenmill mix`: sources of two real runs with texts in common, from the recipe to the trainer's batches."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from click import ClickException
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from tests.loader.row_digests import row_digests
from tests.pipeline.mix_runs import Two, changed, content_hashes, stored_rows, tokenizer_of, write_run, write_two
from tests.pipeline.runs import newest, tokenmill
from tokenmill.pipeline.loader import Stage, open_mixture
from tokenmill.pipeline.mixing.command import mix as command
from tokenmill.pipeline.mixing.runs import MixRun, open_to_mix
from tokenmill.pipeline.mixing.settled import settle_mix
from tokenmill.pipeline.recipe.file import RecipeError, load_tree
from tokenmill.pipeline.recipe.mix import MixRecipe, number_of_tokens
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.trace import open_trace, trace
from tokenmill.pipeline.traced import told

RECIPE = """
name: both
seed: 11
max_epochs: 2
sources:
  notes: 5K
  news: {tokens: 4K, strata: {copies=2-4: 2}}
  a.shared: {tokens: 18K, max_epochs: 3}
"""
STAGES = """
name: stages
batch_size: 8
max_epochs: 2
stages:
- {tokens: 10K, sources: {notes: {weight: 1}, a.shared: {weight: 3}}}
- {tokens: 7K, sources: {news: 2K, a.shared: {weight: 1}}}
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    """The runs; tests only read them."""
    return write_two(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def opened(two: Two) -> list[MixRun]:
    return [open_to_mix(None, f"a={two.notes}"), open_to_mix(None, f"b={two.news}")]


def recipe(text: str, **changes: Any) -> MixRecipe:
    """The recipe, checked; `changes` replace keys of its tree."""
    return load_tree(MixRecipe, text, "mix.yaml", {}).model_copy(update=changes)


def mixed(tmp_path: Path, text: str, *runs: str, output: str | Path = "", options: tuple[str, ...] = ()) -> str:
    """Run the command; what it printed."""
    path = tmp_path / "mix.yaml"
    path.write_text(text)
    arguments = [*runs, "--recipe", str(path), "--output", str(output or tmp_path / "mix"), "--quiet", *options]
    done = CliRunner().invoke(command, arguments)
    if done.exception:
        raise done.exception
    return done.stdout


def mix_of(tmp_path: Path, text: str, two: Two, **more: Any) -> str:
    """Mix the two; the path to open."""
    return json.loads(mixed(tmp_path, text, f"a={two.notes}", f"b={two.news}", options=("--json",), **more))["mix"]


def place_in(two: Two, component: str) -> tuple[Path, str]:
    """The run and its own name of a component of the recipes above."""
    source, _, stratum = component.partition("/")
    run = two.news if source in ("news", "b.shared") else two.notes
    return run, f"{source.rpartition('.')[2]}/{stratum}"


@pytest.mark.parametrize("ranks", [1, 3])
def test_batches_have_the_rows_of_both_runs(two: Two, tmp_path: Path, ranks: int):
    path = mix_of(tmp_path, RECIPE, two)
    rows = {run: stored_rows(run) for run in (two.notes, two.news)}
    loaders = [open_mixture(path, batch_size=6, dp_rank=rank, dp_size=ranks) for rank in range(ranks)]
    found = Counter()
    for batch in (batch for loader in loaders for batch in loader):
        for i in range(len(batch.rows)):
            run, name = place_in(two, batch.component_names[batch.component[i]])
            assert batch.clean[i].tolist() == rows[run][name][batch.stored_row[i]]["tokens"]
            found[batch.component_names[batch.component[i]].split("/")[0]] += 1
    assert set(found) == {"notes", "news", "a.shared"}
    whole = row_digests(open_mixture(path, batch_size=6))
    digests = {}
    for loader in loaders:
        loader.load_state_dict({**loader.state_dict(), "next_row": 0})
        digests |= row_digests(loader)
    assert digests == whole
    assert sum(found.values()) == len(whole) == loaders[0].plan.total_rows // 6 * 6


def test_a_state_goes_on_with_other_ranks(two: Two, tmp_path: Path):
    path = mix_of(tmp_path, STAGES, two)
    batches = list(open_mixture(path, batch_size=8))
    whole = row_digests(batches)
    again = {}
    for rank in range(4):
        loader = open_mixture(path, batch_size=8, dp_rank=rank, dp_size=4)
        loader.load_state_dict(batches[2].state)
        again |= row_digests(loader)
    assert again == {row: digest for row, digest in whole.items() if row >= 24}


def test_stages_open_as_if_they_were_listed_and_count_epochs_on(two: Two, tmp_path: Path):
    path = mix_of(tmp_path, STAGES, two)
    root, listed = path.partition("manifests/")[0], json.loads(Path(path).read_text())["stages"]
    stages = [Stage(root + one["mixture"], one["rows"]) for one in listed]
    loader = open_mixture(path, batch_size=8)
    assert loader.plan.hash == open_mixture(stages, batch_size=8).plan.hash
    assert all(one["rows"] % 8 == 0 for one in listed)
    assert loader.plan.total_rows == sum(one["rows"] for one in listed)
    longer = open_mixture([Stage(path), Stage(stages[0].path_or_url, 8)], batch_size=8)
    longer.load_state_dict({**loader.state_dict(), "next_row": 16})
    visits = Counter()
    for batch in loader:
        visits.update(zip(batch.component.tolist(), batch.epoch.tolist(), batch.stored_row.tolist(), strict=True))
    assert max(visits.values()) == 1
    assert open_mixture(root, batch_size=8).plan.hash == loader.plan.hash
    with pytest.raises(ValueError, match="has 2 stages, each with rows of its own"):
        open_mixture(path, batch_size=8, total_rows=16)


def test_no_held_out_text_is_trained_on_in_any_stage(two: Two, tmp_path: Path):
    text = STAGES.replace("news: 2K", "news: 1K, b.shared: {tokens: 2K}")
    path = mix_of(tmp_path, text, two)
    hashes = {run: content_hashes(run) for run in (two.notes, two.news)}
    rows = {run: stored_rows(run) for run in (two.notes, two.news)}

    def texts(run: Path, component: str) -> set[bytes]:
        return {hashes[run][name] for row in rows[run][component] for name in row["documents"]}

    held_out, trained = set(), set()
    for batch in open_mixture(path, batch_size=8, split="validation"):
        for i in (batch.rows >= 0).nonzero()[0]:
            run, name = place_in(two, batch.component_names[batch.component[i]])
            assert "/validation" in name
            held_out |= {hashes[run][one] for one in rows[run][name][batch.stored_row[i]]["documents"]}
    loader = open_mixture(path, batch_size=8)
    for stage in loader.plan.stages:
        for component in stage.mixture.components:
            trained |= texts(*place_in(two, component.name))
    assert len(held_out) > 5
    assert not held_out & trained
    # what the news run holds out is not in the split: the notes run trains on some of it
    names = [name for name in rows[two.news] if name.startswith("shared/validation")]
    others = set().union(*(texts(two.news, name) for name in names))
    assert others & trained
    assert held_out & others  # documents that both hold out


def test_the_order_is_the_same_wherever_the_runs_lie_and_however_they_are_listed(two: Two, tmp_path: Path):
    path = mix_of(tmp_path, RECIPE, two)
    moved = Two(tmp_path / "else" / "one", tmp_path / "two")
    shutil.copytree(two.notes, moved.notes)
    shutil.copytree(two.news, moved.news)
    said = mixed(
        tmp_path,
        RECIPE,
        f"b={moved.news}",
        f"a={moved.notes}@0",
        output=tmp_path / "other" / "mix",
        options=("--json",),
    )
    other = json.loads(said)["mix"]
    first, second = (open_mixture(one, batch_size=4) for one in (path, other))
    assert first.plan.hash == second.plan.hash
    digests = row_digests(first)
    assert row_digests(second) == digests
    shutil.rmtree(tmp_path / "mix")
    (tmp_path / "moved").mkdir()
    for name in ("else", "two", "other"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    assert row_digests(open_mixture(str(tmp_path / "moved" / "other" / "mix"), batch_size=4)) == digests


def test_the_same_again_writes_nothing_new(two: Two, tmp_path: Path):
    runs = f"a={two.notes}", f"b={two.news}"
    said = mixed(tmp_path, STAGES, *runs)
    assert re.search(r"\nwrote \S+/mix/manifests/mixes/[0-9a-f]{32}\.json\nopen_mixture\(", said)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "mix").rglob("*") if path.is_file()}
    assert len(files) == 5  # a table of both stages, two mixtures, the mix, the tokenizer
    again = mixed(tmp_path, STAGES.replace("10K", "10_000"), *reversed(runs))
    assert again == said.replace("\nwrote", "\nnothing new: there is")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mix").rglob("*") if path.is_file()} == files
    mixed(tmp_path, RECIPE, *runs)
    with pytest.raises(ValueError, match="has 2 mixes, open one of: "):
        open_mixture(str(tmp_path / "mix"), batch_size=4)


def test_what_it_prints_comes_before_it_writes(two: Two, tmp_path: Path):
    said = mixed(tmp_path, RECIPE, f"a={two.notes}", f"b={two.news}", options=("--dry-run",))
    assert not (tmp_path / "mix").exists()
    there = {run: newest(run).value["balance"] for run in (two.notes, two.news)}
    shown = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    for name, run, source, asked in (
        ("notes", two.notes, "notes", "5,000"),
        ("news", two.news, "news", "4,000"),
        ("a.shared", two.notes, "shared", "18,000"),
    ):
        train = [n for stratum, n in there[run][source]["tokens"].items() if stratum.startswith("train")]
        assert shown[name][:2] == [f"{sum(train):,}", asked]
    assert "train/copies=2-4" in shown
    assert "train/copies=1" in shown
    assert shown["all"][0] == "27,000"
    assert "left out: " in said
    assert "held-out rows of news: its run holds out 0.25, another 0.1, and trains on the rest" in said
    assert f"not in it, since the recipe does not name them: {two.news}: shared" in said


def test_rows_are_traced_to_their_runs(two: Two, tmp_path: Path):
    path = mix_of(tmp_path, STAGES, two)
    traced = open_trace(path, with_text=True)
    batches = list(open_mixture(path, batch_size=8))
    names = set()
    for batch in (batches[0], batches[-1]):
        for i, row in enumerate(trace(traced, batch.rows.tolist())):
            run, name = place_in(two, batch.component_names[batch.component[i]])
            names.add(run)
            assert (row.component, row.stored_row) == (batch.component_names[batch.component[i]], batch.stored_row[i])
            assert row.run == f"{run}/{newest(run).path}"
            assert {piece.source for piece in row.pieces} == {name.split("/")[0]}
            texts = [traced.tokenizer.decode(batch.clean[i, p.at : p.at + p.tokens], False) for p in row.pieces]
            assert [piece.text for piece in row.pieces] == texts
            assert f"  run {run}/manifests/run-00000." in told(row)
    assert names == {two.notes, two.news}
    said = tokenmill("trace", path, "--row", str(batches[-1].rows[0]), "--raw")
    assert "raw record of " in said
    held_out = next(trace(open_trace(path, split="validation"), [0]))
    assert "/validation" in held_out.component
    own = Storage(str(two.notes)).url(newest(two.notes).value["mixture"])
    assert next(trace(open_trace(own), [1])) == next(trace(open_trace(str(two.notes)), [1]))


def test_a_run_on_s3_beside_one_on_this_machine(two: Two, tmp_path: Path, s3: None):
    here = row_digests(open_mixture(mix_of(tmp_path, RECIPE, two), batch_size=4))
    put(two.news, "runs/news")
    local = json.loads(
        mixed(
            tmp_path, RECIPE, f"a={two.notes}", "b=s3://tokens/runs/news", output=tmp_path / "two", options=["--json"]
        )
    )
    assert row_digests(open_mixture(local["mix"], batch_size=4)) == here
    assert next(trace(open_trace(local["mix"]), [0])).pieces
    put(two.notes, "runs/notes")
    runs = ("a=s3://tokens/runs/notes", "b=s3://tokens/runs/news")
    remote = json.loads(mixed(tmp_path, RECIPE, *runs, output="s3://tokens/mix", options=["--json"]))
    assert row_digests(open_mixture("s3://tokens/mix", batch_size=4)) == here
    mixture = json.loads(Storage("s3://tokens/mix").read(remote["mixtures"][0].removeprefix("s3://tokens/mix/")))
    assert sorted(run["place"] for run in mixture["runs"]) == ["../runs/news", "../runs/notes"]
    again = json.loads(mixed(tmp_path, RECIPE, *runs, output="s3://tokens/mix", options=["--json"]))
    assert (remote["is_new"], again["is_new"], again["mix"]) == (True, False, remote["mix"])


def test_a_mix_without_held_out_rows_says_so(two: Two, tmp_path: Path):
    path = mix_of(tmp_path, f"{RECIPE}validation: false\n", two)
    with pytest.raises(ValueError, match="the mixture has no held-out rows: its recipe says `validation: false`, or "):
        open_mixture(path, batch_size=4, split="validation")
    with pytest.raises(ClickException, match="say where to write, --output DIR, or --dry-run"):
        CliRunner().invoke(command, ["a", "--recipe", "b"], standalone_mode=False, catch_exceptions=False)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server on loopback with a bucket `tokens`, which the environment names."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket="tokens")
        yield
        s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()


def put(run: Path, prefix: str) -> None:
    client = boto3.client("s3")
    for path in Storage(str(run)).sizes():
        if not path.startswith(("dedup/", "logs/")):
            client.upload_file(str(run / path), "tokens", f"{prefix}/{path}")


def test_stages_of_two_lengths(two: Two, tmp_path: Path):
    long = write_run(tmp_path, "notes", tokenizer=tokenizer_of(two.notes), held_out=0.1, length=128)
    text = STAGES.replace("news: 2K, a.shared: {weight: 1}", "long.shared: {weight: 1}").replace("7K", "5K")
    text = text.replace("notes:", "a.notes:")
    said = json.loads(mixed(tmp_path, text, f"a={two.notes}", f"long={long}", options=["--json"]))
    assert said["parts_in_common"] == [["a.shared", "long.shared", 1]]
    shapes = [batch.clean.shape for batch in open_mixture(said["mix"], batch_size=8)]
    assert Counter(shapes).keys() == {(8, 64), (8, 128)}
    with pytest.raises(ValueError, match="hold out rows of several packings: open the one that is meant, of "):
        open_mixture(said["mix"], batch_size=8, split="validation")
    assert next(iter(open_mixture(said["mixtures"][1], batch_size=8, split="validation"))).clean.shape == (8, 128)


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        (
            {"tokenizer_hash": "0" * 32},
            RECIPE,
            r"tokenizer_hash is '\w+' in .*-run/manifests/run-00000.* and '\w+' in ",
        ),
        ({"vocab_size": 999}, RECIPE, r"vocab_size is .* in .* and .* in .*: a mixture has one; pack one run with the"),
        ({"sequence_length": 32}, RECIPE, r"sequence_length is .*: a stage has one; put them into two stages"),
        ({"sequence_align": 8}, STAGES, r"sequence_align is .*: stage 1 has one; put them into two stages"),
        ({"layout": "concat"}, RECIPE, "layout is '"),
        (
            {"recipe": ("seed: 3", "seed: 4")},
            RECIPE,
            r"draws what it holds out by seed \d, .* by \d: one may train on ",
        ),
        (
            {"recipe": ("validation_fraction: 0.25", "validation_fraction: 0")},
            RECIPE,
            r"news-run/.* holds out nothing, .*notes-run/.* a fraction of 0\.1: .*validation_fraction: 0\.1\}` or more",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused(opened: list[MixRun], change: dict, text: str, message: str):
    other = changed(opened[1], **change)
    with pytest.raises(ValueError, match=message):
        settle_mix(recipe(text), [opened[0], other])
    if "recipe" in change:
        assert not settle_mix(recipe(text, validation=False), [opened[0], other]).held_out
    only = recipe("name: one\nsources: {notes: 1K, news: 0}\n")
    assert len(settle_mix(only, [opened[0], other]).runs) == 1  # what is not drawn from need not fit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: {nots: 1K}", "no run has source 'nots': did you mean 'notes'? There are a.notes, a.shared, "),
        ("sources: {shared: 1K}", "-run: name these runs, such as old="),
        ("sources: {a.notes: 1K, notes: 1K}", "'a.notes' and 'notes' are one source: call it by one name"),
        ("sources: {notes: {weight: 0}}", "the weights of the mixture sum to nothing"),
        ("sources: {notes: 6.5T, news: 1T}", "short by 6,499,999,9"),
    ],
)
def test_recipes_that_the_runs_do_not_have_are_refused(opened: list[MixRun], text: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        settle_mix(recipe(f"name: x\n{text}\n"), opened)


def test_what_is_damaged_or_not_done_is_refused(two: Two, opened: list[MixRun], tmp_path: Path):
    text = "name: x\nsources: {notes: 1K}\n"
    with pytest.raises(ValueError, match=r"holds no published run: there is not one receipt in it; `tokenmill run"):
        mixed(tmp_path, text, str(tmp_path / "none"))
    run = tmp_path / "run"
    shutil.copytree(two.notes, run)
    (manifest,) = run.glob("manifests/run-*.json")
    manifest.rename(tmp_path / manifest.name)
    with pytest.raises(ValueError, match=r"holds no published run: its tables are there, manifests/run-NNNNN\.<hash>"):
        mixed(tmp_path, text, str(run))
    manifest.write_text((tmp_path / manifest.name).read_text().replace('"notes"', '"moles"', 1))
    with pytest.raises(ValueError, match="was edited: its content no longer has the hash in its name"):
        mixed(tmp_path, text, str(run))
    shutil.copy(tmp_path / manifest.name, manifest)
    table = run / newest(run).value["shards"]
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"shards\.\w+\.parquet is damaged or was edited"):
        mixed(tmp_path, text, str(run))
    shutil.copy(two.notes / newest(run).value["shards"], table)
    with pytest.raises(ValueError, match="holds a run: give a mixture a folder of its own"):
        mixed(tmp_path, text, str(two.notes), output=run)
    with pytest.raises(ValueError, match="are of one run, whose versions share documents: mix one"):
        mixed(tmp_path, text, str(run), f"old={run}@0")
    with pytest.raises(ValueError, match=r"are both named 'a': name them apart"):
        mixed(tmp_path, text, f"a={two.notes}", f"a={two.news}")
    copy = open_to_mix(None, f"b={run}")
    with pytest.raises(ValueError, match="they hold the same packed documents; mix one"):
        settle_mix(recipe("name: x\nsources: {a.notes: 1K, b.notes: 1K}"), [opened[0], copy])
    path = mix_of(tmp_path, RECIPE, two)
    Path(path).write_text(Path(path).read_text().replace('"both"', '"most"'))
    with pytest.raises(ValueError, match="was changed: its content no longer has the hash in its name; mix again"):
        open_mixture(path, batch_size=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nsources: {web: {token: 1T}}",
            "mix.yaml:2: sources.web.token: unknown key 'token': did you mean 'tokens'",
        ),
        ("name: x\nsources: {web: 6.5X}", "'6.5X' is no number of tokens: write one such as 6.5T"),
        (
            "name: x\nsources: {web: {tokens: 1, weight: 1}}",
            "give either `tokens` (a budget, such as 6.5T) or `weight`",
        ),
        ("name: x\nsources: {web: {weight: -1}}", "greater than or equal to 0"),
        ("name: x\nsources: {web: {weight: .inf}}", "finite number"),
        ("name: x", "give either `sources`, or `stages` with sources each, one of them"),
        (
            "name: x\nstages: [{sources: {a: 1}}, {sources: {a: 1}}]",
            "stages begin on a global batch: give `batch_size`",
        ),
        ("name: x\ntokens: 1T\nstages: [{sources: {a: 1}}]", "give each of the `stages` its own"),
        ("- x", "a recipe is a mapping with `name`"),
    ],
)
def test_recipes_that_say_nothing_sensible_are_refused(text: str, message: str):
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe(text)


def test_numbers_of_tokens_are_exact():
    written = ["6.5T", "25B", "300m", "8192", 8192, "1_000", "0.001K", 2.0]
    numbers = [6_500_000_000_000, 25_000_000_000, 300_000_000, 8192, 8192, 1000, 1, 2]
    assert [number_of_tokens(value) for value in written] == numbers
