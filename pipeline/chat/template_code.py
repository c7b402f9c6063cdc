"""What the sandbox of chat templates is made of: its code generator, its tag, its `dict` and `namespace`."""

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from tokenmill.pipeline.chat.symbolic import Text
from tokenmill.pipeline.chat.tracing import Piece


class TrackingCode(CodeGenerator):
    """Python code of a template that keeps what is tracked, and counts."""

    def blockvisit(self, nodes: Any, frame: Frame) -> None:
        """Statements, which count as a step."""
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if _escapes(frame):
            super()._output_child_pre(node, frame, finalize)
        else:
            self.write("environment.shown(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`~`."""
        if _escapes(frame):
            super().visit_Concat(node, frame)
            return
        self.write("environment.concat([")
        for part in node.nodes:
            self.write("environment.shown(")
            self.visit(part, frame)
            self.write("), ")
        self.write("])")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """`in`, which C code does for a string; other comparisons as ever."""
        if len(node.ops) > 1 or node.ops[0].op not in ("in", "notin"):
            super().visit_Compare(node, frame)
            return
        self.write("(not " if node.ops[0].op == "notin" else "(")
        self.write("environment.holds(")
        self.visit(node.expr, frame)
        self.write(", ")
        self.visit(node.ops[0].expr, frame)
        self.write("))")


def _escapes(frame: Frame) -> bool:
    """Whether {% autoescape %} is about: what it escapes is not tracked, and says so."""
    return bool(frame.eval_ctx.volatile or frame.eval_ctx.autoescape)


class Generation(Extension):
    """{% generation %}: what the model is to give."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        """The tag with its body, a call of `generated`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("generated"), [], [], body).set_lineno(line)

    def generated(self, caller: Callable[[], Any]) -> Any:
        """The body, each piece of it marked, where a run is traced."""
        body: Any = caller()
        environment: Any = self.environment  # a Sandbox
        if environment.trace is None or (isinstance(body, str) and not body):
            return body
        pieces = body.pieces if isinstance(body, Text) else (Piece(body),)
        return Text(environment.trace, tuple(piece._replace(generated=True) for piece in pieces))


class TemplateDict:
    """`dict` of templates: no attributes to break out by."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """`dict(…)`."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """`dict.fromkeys(…)`."""
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(Namespace):
    """`namespace` of templates: refuses names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace of a chat template cannot have the attribute {name!r}")
