"""The wheel: whole, without tests, real files where the tree has links, and no collision with a trainer's packages."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("dedup", "filters", "manifests", "pipeline")
NOT_COPIED = shutil.ignore_patterns("*.egg-info", "__pycache__")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
WHEEL = (*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation")

# Imports all of ours beside packages of the same bare names, then says where each came from.
CONSUMER = """
import importlib, json, pkgutil, sys
import dedup, filters, manifests, pipeline, pipeline.loader
theirs = {module.__name__: module.__file__ for module in (dedup, filters, manifests, pipeline, pipeline.loader)}
import tokenmill
names = [module.name for module in pkgutil.walk_packages(tokenmill.__path__, "tokenmill.")]
ours = {name: importlib.import_module(name).__file__ for name in names}
bare = {name: sys.modules[name].__file__ for name in theirs}
json.dump({"theirs": theirs, "ours": ours, "bare": bare}, sys.stdout)
"""


@dataclass(frozen=True)
class Built:
    """What was built from a copy of the tree: `tree` itself, two ordinary wheels and an editable one."""

    tree: Path
    wheel: Path
    wheel_of_sdist: Path
    editable: Path


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command; when it fails, the test fails with what it printed."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    top = tmp_path_factory.mktemp("build")
    tree = top / "tree"
    for folder in (*PACKAGES, "infra/package"):
        shutil.copytree(REPOSITORY / folder, tree / folder, symlinks=True, ignore=NOT_COPIED)
    for file in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, tree)
    for hook in ("build_sdist", "build_editable"):  # before a wheel leaves its build/ in the tree
        code = f"from setuptools import build_meta; build_meta.{hook}({str(top / hook)!r})"
        (top / hook).mkdir()
        run(sys.executable, "-c", code, cwd=tree)
    sdist = only(top / "build_sdist", "*.tar.gz")
    run(*WHEEL, "--wheel-dir", top / "of_sdist", sdist, cwd=top)
    run(*WHEEL, "--wheel-dir", top / "wheel", tree, cwd=top)
    return Built(
        tree, only(top / "wheel", "*.whl"), only(top / "of_sdist", "*.whl"), only(top / "build_editable", "*.whl")
    )


def files_on_disk() -> dict[str, bytes]:
    """Content of every file of the four packages, by its name in a wheel."""
    found = {}
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"tokenmill/{path.relative_to(REPOSITORY).as_posix()}"] = path.read_bytes()
    for name in ("__init__.py", "kernels.py", "py.typed"):
        found[f"tokenmill/{name}"] = (REPOSITORY / "infra" / "package" / "tokenmill" / name).read_bytes()
    return found


@pytest.mark.parametrize("which", ["wheel", "wheel_of_sdist"])
def test_wheel_holds_every_file_of_the_packages_and_no_other(built: Built, which: str) -> None:
    with zipfile.ZipFile(getattr(built, which)) as wheel:
        content = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    expected = files_on_disk()
    assert sorted(content) == sorted(expected)
    assert [name for name in expected if content[name] != expected[name]] == []
    assert {f"tokenmill/{package}/py.typed" for package in PACKAGES} <= content.keys()
    assert [name for name in content if "test" in Path(name).parts[1:-1] or "tests" in Path(name).parts] == []


def test_wheel_names_its_licence_and_its_command(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        assert metadata["License-Expression"] == "Apache-2.0"
        assert wheel.read(f"{info}/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_bytes()
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert entry_points.split() == ["[console_scripts]", "tokenmill", "=", "tokenmill.pipeline.cli:main"]


def test_installed_wheel_stands_beside_a_trainers_own_packages(built: Built, tmp_path: Path) -> None:
    trainer, installed = tmp_path / "trainer", tmp_path / "installed"
    for package in (*PACKAGES, "pipeline/loader"):
        (trainer / package).mkdir(parents=True)
        (trainer / package / "__init__.py").write_text("", encoding="utf-8")
    run(*PIP, "install", "--no-index", "--no-deps", "--target", installed, built.wheel, cwd=tmp_path)
    path = os.pathsep.join([str(trainer), str(installed)])
    found = json.loads(run(sys.executable, "-c", CONSUMER, cwd=trainer, PYTHONPATH=path))

    assert found["theirs"].keys() == {*PACKAGES, "pipeline.loader"}
    assert [name for name, file in found["theirs"].items() if not Path(file).is_relative_to(trainer)] == []
    assert found["bare"] == found["theirs"]  # importing ours left theirs where they were
    assert [name for name, file in found["ours"].items() if not Path(file).is_relative_to(installed)] == []
    modules = {name.removesuffix(".py").removesuffix("/__init__") for name in files_on_disk() if name.endswith(".py")}
    assert found["ours"].keys() == {name.replace("/", ".") for name in modules} - {"tokenmill"}


def test_editable_install_reads_the_tree_and_adds_no_bare_names(built: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.editable) as wheel:
        wheel.extractall(tmp_path)
    # -S: without site-packages, where the tests' own editable install is.
    code = f"""
import importlib.util, site
site.addsitedir({str(tmp_path)!r})
import tokenmill.pipeline
print(tokenmill.pipeline.__file__)
print([name for name in {PACKAGES!r} if importlib.util.find_spec(name)])
"""
    file, bare = run(sys.executable, "-P", "-S", "-c", code, cwd=tmp_path).split("\n")[:2]
    assert Path(file).resolve() == (built.tree / "pipeline" / "__init__.py").resolve()
    assert bare == "[]"
