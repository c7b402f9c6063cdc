"""What the page needs and a run does not: the `report` extra."""

from importlib.util import find_spec

_NEEDED = ("matplotlib",)


def check_installed() -> None:
    """Raise ValueError, saying what to install, unless the `report` extra is there."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(f"a report needs {' and '.join(missing)}: pip install 'tokenmill[report]'")
