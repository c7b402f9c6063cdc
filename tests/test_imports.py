"""The walls between the rooms: who may import whom, who opens files, and what may lie in the repository.

manifests <- filters, dedup <- pipeline <- infra; `tokenmill.kernels`, how kernels are compiled, is for all of them.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenmill

REPOSITORY = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "manifests": {"manifests"},
    "filters": {"filters", "manifests"},
    "dedup": {"dedup", "manifests"},
    "pipeline": {"pipeline", "dedup", "filters", "manifests"},
}
# What a pure package may use from outside the standard library.
PURE = {"numba", "numpy", "pyarrow", "tokenmill", "xxhash"}
# Rooms of pipeline/ that a trainer, or a child process without Ray, imports.
WITHOUT_RAY = ("pipeline.chat", "pipeline.loader", "pipeline.readers", "pipeline.tokens", "pipeline.extraction")

# pipeline/storage.py opens files. What else touches the file system, and why it may.
MAY_TOUCH_FILES = {
    "pipeline.storage": "the only reader and writer",
    "pipeline.demo.raw_shards": "makes the raw data that the pipeline then reads, from the interpreter's own library",
    "pipeline.demo.show": "reads its recipe, which lies in the package itself",
    "pipeline.extraction.child": "the child process: opens the two pipes it is born with, no file",
    "pipeline.plan": "lists a source's raw files, by patterns; opens none",
    "pipeline.tokens.letter_classes": "reads its table, which lies in the package itself",
    "pipeline.cli": "reads the recipe, a file of the user's that no run has named yet",
}
FILE_MODULES = {"fsspec", "glob", "mmap", "s3fs", "shutil", "tempfile"}
FILE_CALLS = {
    *("fdopen", "fromfile", "memmap", "memory_map", "open_input_file", "OSFile", "tofile"),
    *("read_bytes", "read_text", "write_bytes", "write_text"),
}
FILE_FUNCTIONS = {"np.load", "np.save", "os.listdir", "os.open", "os.scandir", "os.walk"}


def modules() -> dict[str, ast.Module]:
    """Every module of the four packages, parsed, by dotted name under `tokenmill`."""
    found = {}
    for package in MAY_IMPORT:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_bytes(), filename=str(path))
    return found


MODULES = modules()


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names a module imports, anywhere in it. `from a import b` gives "a.b", be b a module or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import gives a name of its own kind, which no rule below allows.
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            yield from (part.value for part in node.args[:1] if isinstance(part, ast.Constant))


def called(call: ast.Call) -> str:
    """Last name of what is called: "open" for `open(…)` and for `a.b.open(…)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def touches_files(tree: ast.Module) -> list[str]:
    """What in a module opens, lists or makes files: modules imported and calls made. Storage's own methods do not."""
    found = [name for name in imports(tree) if name.split(".")[0] in FILE_MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if called(node) in FILE_CALLS or name in FILE_FUNCTIONS or (called(node) == "open" and opens_by_name(node)):
            found.append(name)
    return found


def opens_by_name(call: ast.Call) -> bool:
    """Whether a call of some `open` is given a file's name.

    A Storage's own is not, nor one of an open file (`fileobj=`), nor one that reads a member of an open archive.
    """
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    return not owner.endswith(("storage", "archive")) and "fileobj" not in {keyword.arg for keyword in call.keywords}


def tokenmill_imports(name: str) -> set[str]:
    """Modules of ours that module `name` imports, each with the packages around it, which Python runs first."""
    found = set()
    for imported in imports(MODULES[name]):
        parts = imported.removeprefix("tokenmill.").split(".") if imported.startswith("tokenmill.") else []
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & MODULES.keys()
    return found


def test_the_walk_sees_all_rooms() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(MAY_IMPORT)
    assert len(MODULES) >= 20


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    package = name.split(".")[0]
    ours = [imported for imported in imports(MODULES[name]) if imported.startswith("tokenmill.")]
    assert [imported for imported in ours if imported.split(".")[1] not in {*MAY_IMPORT[package], "kernels"}] == []
    relative_or_bare = [
        imported for imported in imports(MODULES[name]) if imported.split(".")[0] in {"", *MAY_IMPORT, "infra", "tests"}
    ]
    assert relative_or_bare == [], "name our modules in full: tokenmill.…"


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] != "pipeline"])
def test_pure_packages_see_arrow_and_numpy_alone(name: str) -> None:
    outside = {imported.split(".")[0] for imported in imports(MODULES[name])} - PURE
    assert sorted(outside - sys.stdlib_module_names) == []
    assert sorted(outside & {"asyncio", "multiprocessing", "os", "pathlib", "socket", "subprocess", "threading"}) == []


def test_only_the_shell_imports_ray() -> None:
    direct = {name for name in MODULES if any(imported.split(".")[0] == "ray" for imported in imports(MODULES[name]))}
    assert {name.split(".")[0] for name in direct} == {"pipeline"}
    for start in (name for name in MODULES if name.startswith(WITHOUT_RAY)):
        reached, waiting = {start}, [start]
        while waiting:
            new = tokenmill_imports(waiting.pop()) - reached
            reached |= new
            waiting += new
        assert sorted(reached & direct) == [], f"{start} reaches Ray"
        if start.startswith("pipeline.loader"):
            assert [name for name in sorted(reached) if name.startswith("pipeline.steps")] == []


def test_importing_the_loader_brings_neither_ray_nor_torch() -> None:
    code = (
        "import sys, tokenmill.pipeline.loader as m; print(m.__file__, sorted({'ray', 'torch'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    file, loaded = result.stdout.strip().split(" ", 1)
    assert file.endswith("loader/__init__.py")
    assert loaded == "[]"


def test_only_storage_touches_files() -> None:
    found = {name: touches_files(tree) for name, tree in MODULES.items()}
    touching = {name: what for name, what in found.items() if what}
    assert {name: what for name, what in touching.items() if name not in MAY_TOUCH_FILES} == {}
    assert sorted(MAY_TOUCH_FILES.keys() - touching.keys()) == [], "an exception nobody needs any more: remove it"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("with open('x') as f: pass", ["open"]),
        ("Path('x').open()", ["Path('x').open"]),
        ("self.path.read_text()", ["self.path.read_text"]),
        ("import gzip; gzip.open('x')", ["gzip.open"]),
        ("def f():\n    from shutil import rmtree", ["shutil.rmtree"]),
        ("import fsspec.core", ["fsspec.core"]),
        ("np.load('x'); os.walk('.')", ["np.load", "os.walk"]),
        ("self._storage.open('x'); storage.open('y'); storage.read('z')", []),
        ("tarfile.open(fileobj=file); archive.open(member)", []),
        ("pa.ipc.open_file(buffer); open_url('x')", []),
    ],
)
def test_the_file_rule_finds_what_it_should(source: str, expected: list[str]) -> None:
    assert touches_files(ast.parse(source)) == expected


def repository_files() -> list[Path]:
    """Files that are, or would be, committed."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    paths = [REPOSITORY / name for name in names if name]
    return [path for path in paths if path.is_file()]


def test_no_file_of_the_repository_is_over_1_mb() -> None:
    files = repository_files()
    assert REPOSITORY / "pyproject.toml" in files
    assert [str(path) for path in files if path.stat().st_size > 1_000_000] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    somebodys = re.compile(rb"(?<![\w.:/~-])/(?:home|Users|root)/\w")
    here = re.escape(f"{REPOSITORY}/".encode())
    found = [
        path
        for path in repository_files()
        if somebodys.search(content := path.read_bytes()) or re.search(here, content)
    ]
    assert [str(path.relative_to(REPOSITORY)) for path in found] == []


def test_kernels_live_in_the_rooms_whose_sources_name_their_cache():
    """A kernel elsewhere would be served stale after a change."""
    kernels = [
        path.relative_to(REPOSITORY)
        for package in ("dedup", "filters", "manifests", "pipeline")
        for path in (REPOSITORY / package).rglob("*.py")
        if re.search(r"^@(njit|numba|kernel|helper|allocating_helper|vectorize|guvectorize)", path.read_text(), re.M)
    ]
    assert len(kernels) > 10
    rooms = [Path(room) for room in tokenmill._KERNEL_ROOMS]
    assert [path for path in kernels if not any(path.is_relative_to(room) for room in rooms)] == []
