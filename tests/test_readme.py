"""The README's commands, run as written."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python|yaml)\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def place(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the repository is after `make demo`: an environment and out/demo."""
    folder = tmp_path_factory.mktemp("place")
    environment = Path(sys.executable).parent.parent
    (folder / ".venv").symlink_to(environment)
    (folder / "out").mkdir()
    (folder / "out" / "demo").symlink_to(demo_run)
    return folder


def run(place: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def _with_infra(place: Path) -> None:
    if not (place / "infra").exists():
        (place / "infra").symlink_to(REPOSITORY / "infra")


def test_the_ten_lines_build_and_load_a_mixture(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "out/recipe.yaml" in text)
    assert len(shell.strip().splitlines()) <= 10
    assert "published out/packages/manifests/run-00000" in run(place, "bash", "-euc", shell)
    python = next(text for kind, text in BLOCKS if kind == "python" and "out/packages" in text)
    assert "(16, 512)" in run(place, sys.executable, "-c", python)


def test_train_on_it(place: Path):
    pytest.importorskip("torch")
    python = next(text for kind, text in BLOCKS if kind == "python" and "TorchBatches" in text)
    run(place, sys.executable, "-c", python)


def test_train_with_others(place: Path):
    pytest.importorskip("torchdata")
    python = next(text for kind, text in BLOCKS if kind == "python" and "StatefulDataLoader" in text)
    run(place, sys.executable, "-c", python)


@pytest.mark.skipif(
    not all(map(find_spec, ("torch", "transformers", "accelerate"))), reason="transformers or accelerate is missing"
)
def test_train_with_hugging_face(place: Path):
    _with_infra(place)
    run(place, "bash", "-euc", next(text for kind, text in BLOCKS if kind == "sh" and "hugging_face" in text))
    assert (place / "out" / "checkpoints" / "checkpoint-4" / "loader.json").exists()


def test_conversations(place: Path):
    _with_infra(place)
    said = run(
        place, "bash", "-euc", next(text for kind, text in BLOCKS if kind == "sh" and "conversations.py" in text)
    )
    assert "are answers (" in said
    assert "So we try again, and look at the argument once more." in said
    run(place, sys.executable, "-c", next(text for kind, text in BLOCKS if kind == "python" and "out/sft" in text))


def test_rows_of_several_lengths(place: Path):
    """The recipe of conversations, with the lines shown in the place of its own."""
    _with_infra(place)
    shown = next(text for kind, text in BLOCKS if kind == "yaml" and "buckets: [512" in text)
    recipe = (place / "infra" / "recipes" / "sft.yaml").read_text()
    own = [line for line in recipe.splitlines(keepends=True) if not line.startswith(("sequences:", "mixture:"))]
    (place / "out" / "buckets.yaml").write_text("".join(own) + shown.replace("batch_size: 256", "batch_size: 32"))
    run(place, sys.executable, "infra/examples/conversations.py", "out/conversations")
    tokenmill = str(Path(sys.executable).parent / "tokenmill")
    run(place, tokenmill, "run", "out/buckets.yaml", "--output", "out/buckets")
    assert "in batches of 32 rows of one length, 512" in run(place, tokenmill, "audit", "out/buckets")
    opened = (
        "from tokenmill.pipeline.loader import open_mixture\n"
        "loader = open_mixture('out/buckets', batch_size=32, objective='llada_sft')\n"
        "print(*sorted({batch.clean.shape[1] for batch in loader}))"
    )
    assert run(place, sys.executable, "-c", opened).split() == ["512", "1024"]


def test_stages_and_validation(place: Path):
    python = next(text for kind, text in BLOCKS if kind == "python" and "Stage(" in text)
    run(place, sys.executable, "-c", python)


def test_export(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenmill export" in text)
    said = run(place, "bash", "-euc", shell)
    exported = [line for line in said.splitlines() if line.startswith("exported ")]
    assert len(exported) == len(shell.strip().splitlines())
    assert "4,096 rows" in said


def test_mix(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenmill mix" in text)
    said = run(place, "bash", "-euc", shell)
    assert "pretrain, stage 1" in said
    assert "wrote out/mix/manifests/mixes/" in said
    opened = (
        'import tokenmill.pipeline.loader as loader; print(loader.open_mixture("out/mix", batch_size=8).num_batches)'
    )
    assert int(run(place, sys.executable, "-c", opened)) > 400


def test_the_page(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenmill report" in text)
    assert run(place, "bash", "-euc", shell).startswith("out/report.html: ")
    assert "<h1>demo</h1>" in (place / "out" / "report.html").read_text()


def test_tokenizers(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenizer train" in text)
    said = run(place, "bash", "-euc", shell)
    assert said.count("bytes a token, on ") == 2
    assert "stdlib" in said
    report = json.loads((place / "out" / "8k-gpt2.report.json").read_text())
    assert [one["tokenizer"] for one in report["measured"]][::2] == ["out/8k-gpt2.json", "out/8k.json"]


def test_audit(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "audit out/demo" in text)
    said = run(place, "bash", "-euc", shell)
    assert "source pages, by language" in said
    assert "recounted: every number is what the files hold" in said


def test_diff(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenmill diff" in text)
    assert "what became of documents: the same" in run(place, "bash", "-euc", shell)


def test_questions(place: Path):
    shell = next(text for kind, text in BLOCKS if kind == "sh" and "tokenmill sql" in text)
    questions = shell.split("\n# ")
    assert len(questions) == 5
    for question in questions:
        lines = run(place, "bash", "-euc", f"# {question}").splitlines()
        assert len(lines) > 1, f"{question} finds nothing in the demo's run"


def test_the_commands_of_the_table_exist():
    shown = re.findall(r"^\| `tokenmill (\w+)", README, re.MULTILINE)
    assert shown
    for command in shown:
        done = subprocess.run(
            [Path(sys.executable).parent / "tokenmill", command, "--help"], capture_output=True, text=True, check=True
        )
        assert len(done.stdout.split("\n\n")[1]) > 40  # says what it does


def test_the_recipe_shown_is_valid():
    from tokenmill.pipeline.recipe.file import load_recipe

    text = next(text for kind, text in BLOCKS if kind == "yaml")
    assert load_recipe(text, "README.md", {}).recipe.name == "example"


def test_the_recipes_of_responses_anew_are_valid():
    from tokenmill.pipeline.recipe import Source

    text = next(text for kind, text in BLOCKS if kind == "yaml" and "regenerate:" in text)
    prompts, answers = (Source.model_validate(each["sources"][0]) for each in yaml.safe_load_all(text))
    assert prompts.regenerate is not None
    assert prompts.regenerate.choose.by == "verifiable"
    assert answers.columns.url == "url"


def test_each_heading_and_block_stands_once():
    headings = re.findall(r"^#+ .*$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE)
    assert len(headings) > 20
    assert len(set(headings)) == len(headings)
    assert len(set(BLOCKS)) == len(BLOCKS)


def test_the_make_targets_shown_exist():
    targets = re.findall(r"^make (\w+)", next(text for kind, text in BLOCKS if "make demo" in text), re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True, env={**os.environ})


def test_the_tree_shown_is_the_tree():
    tree = re.search(r"## The tree\n+```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    for line in tree[1].splitlines():
        name = line.split()[0]
        folder = REPOSITORY / "pipeline" if line.startswith("  ") else REPOSITORY
        for each in re.findall(r"[\w/]+\.py|\w+/", line.split("  ")[0] if not line.startswith("  ") else name):
            assert (folder / each).exists(), f"README's tree names {each}"
