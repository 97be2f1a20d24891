"""What a ``$`` expression of a config would do, read from its syntax tree."""

from __future__ import annotations

import ast
import builtins
import io
import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

from monai_lighter.inspection.attributes import CALLED, DANGEROUS_ATTRIBUTES, HARMLESS_DUNDERS, WRITING
from monai_lighter.inspection.calls import CallReader
from monai_lighter.inspection.judge import judge, judge_import, name_of
from monai_lighter.inspection.pickled import pickle_entries
from monai_lighter.inspection.policy import DANGEROUS
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import Scope
from monai_lighter.inspection.syntax import REFERENCES, bindings, dotted_name, parse_expression, reference_path

__all__ = ["Expression", "read_expression", "read_located"]

DUNDER = re.compile(r"__\w+__")


class Expression(NamedTuple):
    """What was read.

    Attributes:
        group: ``plain``, ``call``, ``import`` or ``dangerous``.
        verdicts: everything that is not harmless.
        texts: text constants in it, each with the name of the argument that it is, or is part of.
        joined: those of them that something else stands before, as in ``@root + '/eval'``.
        names: dotted names that its value has, where it is nothing but a name.
        references: ids that it refers to.
        is_import: whether it is an import statement.
    """

    group: str
    verdicts: list[Verdict]
    texts: list[tuple[str, str]]
    joined: set[str]
    names: list[str]
    references: list[str]
    is_import: bool = False


def read_expression(text: str, scope: Scope) -> Expression:
    """Reads an expression, ``$`` included."""
    try:
        tree = parse_expression(text)
    except SyntaxError as error:
        return Expression(
            "plain", [Verdict(Level.LOOK, f"cannot be parsed ({error.msg})")], [(text, "")], set(), [], []
        )
    if tree.body and isinstance(tree.body[0], (ast.Import, ast.ImportFrom)):
        imported = dict.fromkeys(dotted for _, dotted in bindings(tree, relative=False))
        found = [scope.resolver.dotted(name) for name in imported]
        verdicts = [Verdict(v.level, f"{name_of(f)}: {v.why}") for f, v in ((f, judge_import(f)) for f in found)]
        return _import(verdicts, [name_of(f) for f in found])
    only = tree.body[0].value if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
    reader = _Reader(scope, only)
    try:
        reader.visit(tree)
    except RecursionError:
        reader.danger("nested too deep to be read")
    if only is None:
        reader.look("no expression: it cannot be evaluated")
    verdicts = list(dict.fromkeys(reader.verdicts))
    dangerous = any(verdict.level is Level.DANGER for verdict in verdicts)
    names = (
        list(dict.fromkeys(reader.candidates(only)))
        if isinstance(only, (ast.Name, ast.Attribute, ast.Subscript))
        else []
    )
    group = "dangerous" if dangerous else "call" if reader.calls else "plain"
    return Expression(group, verdicts, reader.texts, reader.joined, names, reader.references)


def read_located(text: str, scope: Scope) -> list[Verdict]:
    """What is not harmless, were the value of an expression looked up by its name and called."""
    reader = _Reader(scope)
    try:
        for statement in parse_expression(text).body:
            reader.located(statement.value if isinstance(statement, ast.Expr) else statement)
    except (SyntaxError, RecursionError):
        reader.danger("cannot be read")
    return reader.verdicts


def _import(verdicts: list[Verdict], names: list[str]) -> Expression:
    dangerous = any(verdict.level is Level.DANGER for verdict in verdicts)
    group = "dangerous" if dangerous else "import"
    return Expression(group, [verdict for verdict in verdicts if verdict.level], [], set(), names, [], True)


class _Reader(CallReader):
    """Collects what is not harmless in an expression.

    Args:
        scope: of the item.
        only: the node that is the whole expression.
    """

    def __init__(self, scope: Scope, only: ast.AST | None = None) -> None:
        super().__init__(scope)
        self.only = only
        self.texts: list[tuple[str, str]] = []
        self.joined: set[str] = set()
        self.references: list[str] = []
        self.local: set[str] = set()

    def visit_Module(self, node: ast.Module) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                self.local.add(inner.arg)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.local.add(inner.id)
            elif isinstance(inner, (ast.Attribute, ast.Subscript)) and not isinstance(inner.ctx, ast.Load):
                self.danger(f"assigns to .{inner.attr}" if isinstance(inner, ast.Attribute) else "assigns to an item")
        self.generic_visit(node)

    def candidates(self, node: ast.AST) -> Iterator[str]:
        base, attributes = dotted_name(node)
        for name in self._bases(base):
            yield ".".join([name, *attributes])

    def _bases(self, base: ast.AST) -> Iterable[str]:
        if (path := reference_path(base)) is not None:
            return self.scope.referred(path)
        if not isinstance(base, ast.Name):
            return ()
        known = list(self.scope.names(base.id))
        name = f"builtins.{base.id}"
        if not known and hasattr(builtins, base.id) and (base.id not in self.local or name in DANGEROUS):
            return [name]
        return known

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in CALLED and node is not self.only and not list(self.candidates(node)):
            self.look(f"method .{node.attr} is handed on: what it is called with is not seen")
        self.chain(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.chain(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if reference_path(node) is not None:
            self.chain(node)
            return
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            self.look("refers to an item that is computed")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
            self.joined.add(node.right.value)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.joined |= {str(part.value) for part in node.values[1:] if isinstance(part, ast.Constant)}
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bytes):
            self._bytes(node.value)
        if isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            self.texts.append((text, self.argument))
            if set(DUNDER.findall(text)) - HARMLESS_DUNDERS:
                self.danger(f"text {text[:80]!r} names an inner attribute")

    def _bytes(self, data: bytes) -> None:
        """A constant that is a pickle: what loads it need not be seen here."""
        entries = pickle_entries("", io.BytesIO(data), self.scope.resolver, False)
        self.verdicts += [Verdict(entry.level, f"a pickle: {entry.what}") for entry in entries if entry.level]

    def chain(self, node: ast.AST) -> None:
        """A name with its attributes, judged as a whole."""
        base, attributes = dotted_name(node)
        path = reference_path(base)
        known = list(dict.fromkeys(self.candidates(node)))
        if path is not None:
            self.references.append(path)
            for name in self.scope.held(path) if node is not self.only else ():
                self._judged(name, handed_on=True)
        elif not isinstance(base, ast.Name):
            self.visit(base)
        names = [base.id] if isinstance(base, ast.Name) and base.id != REFERENCES else []
        for attribute in [*names, *attributes]:
            if DUNDER.fullmatch(attribute) and attribute not in HARMLESS_DUNDERS:
                self.danger(f"inner attribute {attribute}")
        for name in known:
            self._judged(name, handed_on=node is not self.only)
        if not known:
            self._unknown(base, attributes)

    def _judged(self, name: str, handed_on: bool) -> None:
        found = self.scope.resolver.dotted(name)
        verdict = judge(found)
        is_module = isinstance(found.object, ModuleType)
        if found.object is open:
            self.danger("open is handed on: may write a file")
        elif is_module and handed_on and verdict.level < Level.DANGER:
            self.danger(f"module {name_of(found)} is handed on: what is reached through it is not seen")
        elif verdict.level:
            self.verdicts.append(Verdict(verdict.level, f"{'module ' * is_module}{name_of(found)}: {verdict.why}"))

    def _unknown(self, base: ast.AST, attributes: list[str]) -> None:
        for attribute in attributes:
            if attribute in DANGEROUS_ATTRIBUTES or (attribute.startswith("_") and not DUNDER.fullmatch(attribute)):
                self.danger(f"attribute .{attribute}")
            elif WRITING.fullmatch(attribute):
                self.look(f"attribute .{attribute}: may write a file")
        if isinstance(base, ast.Name) and base.id not in self.local and base.id != REFERENCES:
            self.look(f"name {base.id!r} is not known")
