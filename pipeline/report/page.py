"""The page: sections put into the template, with a policy under which nothing but its own style and script can act.

All that comes from the run is text: the template escapes it, signs that hide or reorder text are shown as escapes, and
nothing of it is a link, an attribute's name or a script's data. The policy names the style sheet and the script by
their hashes and forbids everything else, so not even markup that got through would run or ask for anything.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tokenmill.pipeline.report.blocks import Section
from tokenmill.pipeline.seen import visible

#: A page is no larger.
PAGE_BYTES = 8_000_000
_CELL_CHARACTERS = 300
_TEXT_CHARACTERS = 600
_TEXT_LINES = 14
#: A sign that hides may take ten characters as an escape; so many times its length a text may become.
_GROWTH = 1.5


@dataclass(frozen=True)
class Page:
    """What is on the page.

    Attributes:
        title: the run's name.
        version: path of the published manifest.
        figures: name, value and remark of the figures at its head.
        sections: in order.
    """

    title: str
    version: str
    figures: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]


def render(page: Page) -> bytes:
    """The page as HTML, UTF-8."""
    loader = PackageLoader("tokenmill.pipeline.report", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": _one_line,
        "name": _breakable,
        "beginning": _beginning,
        "left_out": _left_out,
        "whole": _lines,
    }
    # ours, from the package, and hashed as they stand in the page
    style, script = (loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    text = environment.get_template("page.html").render(
        page=page, policy=policy, style=Markup(style), script=Markup(script)
    )
    return text.encode()


def _source_hash(text: str) -> str:
    """A text as a content policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _one_line(text: str) -> str:
    """A text in one line, shortened."""
    return _cut(visible(text, _CELL_CHARACTERS).replace("⏎\n", "⏎"), _CELL_CHARACTERS)


def _cut(shown: str, characters: int) -> str:
    """What is shown of so many characters, cut where escapes have made it far longer."""
    most = int(characters * _GROWTH)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _breakable(name: str) -> Markup:
    """The same of a name, which may go on in another line after each of its parts."""
    escaped = str(escape(_one_line(name)))  # of Markup, `re` would escape what it puts in
    return Markup(re.sub(r"([_./])", r"\1<wbr>", escaped))


def _lines(text: str, limit: int = 1 << 62) -> str:
    """A text as it stands, but that what hides in it is seen; a tab only moves what follows, and stays."""
    shown = "\t".join(visible(piece.replace("\xa0", "␣"), limit) for piece in text.split("\t"))
    return shown.replace("⏎\n", "\n")


def _start(text: str) -> str:
    return "\n".join(text[:_TEXT_CHARACTERS].split("\n")[:_TEXT_LINES])


def _beginning(text: str) -> str:
    """The first lines and characters of a text."""
    return _cut(_lines(_start(text)), _TEXT_CHARACTERS)


def _left_out(text: str) -> int:
    """How many characters come after its beginning."""
    return len(text) - len(_start(text))
