"""What a ``$`` expression of a config would do, read from its syntax tree."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

from monai_lighter.inspection.attributes import DANGEROUS_ATTRIBUTES, HARMLESS_DUNDERS, WITH_TEXT, WRITING_ATTRIBUTES
from monai_lighter.inspection.judge import judge, judge_import, name_of, rule_for
from monai_lighter.inspection.policy import DANGEROUS
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import Scope
from monai_lighter.inspection.syntax import REFERENCES, argument_state, dotted_name, imported_names, parse_expression

__all__ = ["Expression", "read_expression"]

DUNDER = re.compile(r"__\w+__")


class Expression(NamedTuple):
    """What was read.

    Attributes:
        group: ``plain``, ``call``, ``import`` or ``dangerous``.
        verdicts: everything that is not harmless.
        texts: text constants in it.
        joined: those of them that something else stands before, as in ``@root + '/eval'``.
        names: dotted names that its value has, where it is nothing but a name.
        references: ids that it refers to.
        is_import: whether it is an import statement.
    """

    group: str
    verdicts: list[Verdict]
    texts: list[str]
    joined: set[str]
    names: list[str]
    references: list[str]
    is_import: bool = False


def read_expression(text: str, scope: Scope) -> Expression:
    """Reads an expression, ``$`` included."""
    try:
        tree = parse_expression(text)
    except SyntaxError as error:
        return Expression("plain", [Verdict(Level.LOOK, f"cannot be parsed ({error.msg})")], [text], set(), [], [])
    if tree.body and isinstance(tree.body[0], (ast.Import, ast.ImportFrom)):
        found = [scope.resolver.dotted(name) for name in imported_names(tree).values()]
        verdicts = [Verdict(v.level, f"{name_of(f)}: {v.why}") for f, v in ((f, judge_import(f)) for f in found)]
        return _import(verdicts, [name_of(f) for f in found])
    reader = _Reader(scope)
    try:
        reader.visit(tree)
    except RecursionError:
        reader.verdicts.append(Verdict(Level.DANGER, "nested too deep to be read"))
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        reader.verdicts.append(Verdict(Level.LOOK, "no expression: it cannot be evaluated"))
    verdicts = list(dict.fromkeys(reader.verdicts))
    dangerous = any(verdict.level is Level.DANGER for verdict in verdicts)
    only = tree.body[0].value if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
    names = list(reader.candidates(only)) if isinstance(only, (ast.Name, ast.Attribute, ast.Subscript)) else []
    group = "dangerous" if dangerous else "call" if reader.calls else "plain"
    return Expression(group, verdicts, reader.texts, reader.joined, names, reader.references)


def _import(verdicts: list[Verdict], names: list[str]) -> Expression:
    dangerous = any(verdict.level is Level.DANGER for verdict in verdicts)
    group = "dangerous" if dangerous else "import"
    return Expression(group, [verdict for verdict in verdicts if verdict.level], [], set(), names[:1], [], True)


class _Reader(ast.NodeVisitor):
    """Collects what is not harmless in an expression."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.verdicts: list[Verdict] = []
        self.texts: list[str] = []
        self.joined: set[str] = set()
        self.references: list[str] = []
        self.local: set[str] = set()
        self.calls = 0

    def danger(self, why: str) -> None:
        self.verdicts.append(Verdict(Level.DANGER, why))

    def look(self, why: str) -> None:
        self.verdicts.append(Verdict(Level.LOOK, why))

    def visit_Module(self, node: ast.Module) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                self.local.add(inner.arg)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.local.add(inner.id)
        self.generic_visit(node)

    def candidates(self, node: ast.AST) -> Iterator[str]:
        """Dotted names that a name, a chain of attributes or a reference may stand for."""
        base, attributes = dotted_name(node)
        for name in self._bases(base):
            yield ".".join([name, *attributes])

    def _bases(self, base: ast.AST) -> Iterable[str]:
        if isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name) and base.value.id == REFERENCES:
            return self.scope.referred(str(base.slice.value)) if isinstance(base.slice, ast.Constant) else ()
        if not isinstance(base, ast.Name):
            return ()
        known = list(self.scope.names(base.id))
        name = f"builtins.{base.id}"
        if not known and hasattr(builtins, base.id) and (base.id not in self.local or name in DANGEROUS):
            return [name]
        return known

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._chain(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._chain(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            self._chain(node)
        else:
            self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Add) and isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
            self.joined.add(node.right.value)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.joined |= {str(part.value) for part in node.values[1:] if isinstance(part, ast.Constant)}
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            self.texts.append(text)
            if set(DUNDER.findall(text)) - HARMLESS_DUNDERS:
                self.danger(f"text {text[:80]!r} names an inner attribute")

    def _chain(self, node: ast.AST) -> None:
        """A name with its attributes, judged as a whole."""
        base, attributes = dotted_name(node)
        if isinstance(base, ast.Subscript) and isinstance(base.value, ast.Name) and base.value.id == REFERENCES:
            if isinstance(base.slice, ast.Constant):
                self.references.append(str(base.slice.value))
            else:
                self.look("refers to an item that is computed")
        elif not isinstance(base, ast.Name):
            self.visit(base)
        names = [base.id] if isinstance(base, ast.Name) and base.id != REFERENCES else []
        for attribute in [*names, *attributes]:
            if DUNDER.fullmatch(attribute) and attribute not in HARMLESS_DUNDERS:
                self.danger(f"inner attribute {attribute}")
        known = list(self.candidates(node))
        for name in known:
            self._judged(name)
        if not known:
            self._unknown(base, attributes)

    def _judged(self, name: str) -> None:
        found = self.scope.resolver.dotted(name)
        verdict = judge(found)
        if verdict.level:
            what = "module " if isinstance(found.object, ModuleType) else ""
            self.verdicts.append(Verdict(verdict.level, f"{what}{name_of(found)}: {verdict.why}"))

    def _unknown(self, base: ast.AST, attributes: list[str]) -> None:
        for attribute in attributes:
            if attribute in DANGEROUS_ATTRIBUTES:
                self.danger(f"attribute .{attribute}")
            elif attribute in WRITING_ATTRIBUTES:
                self.look(f"attribute .{attribute}: may write a file")
        if isinstance(base, ast.Name) and base.id not in self.local and base.id != REFERENCES:
            self.look(f"name {base.id!r} is not known")

    def visit_Call(self, node: ast.Call) -> None:
        self.calls += 1
        names = {name_of(self.scope.resolver.dotted(name)) for name in self.candidates(node.func)}
        special = {"builtins.getattr": self._getattr, "builtins.setattr": self._setattr, "builtins.type": self._type}
        opens = names & {"builtins.open", "_io.open", "io.open"}
        if opens:
            self._open(node)
        elif len(names) == 1 and (name := next(iter(names))) in special:
            special[name](node)
        elif not self._ruled(node):
            self._method(node)
            self.visit(node.func)
        for value in [*node.args, *node.keywords]:
            self.visit(value)

    def _method(self, node: ast.Call) -> None:
        if not isinstance(node.func, (ast.Name, ast.Attribute, ast.Subscript, ast.Lambda, ast.Call)):
            self.look("calls something that is computed")
        if isinstance(node.func, ast.Attribute) and node.func.attr in WITH_TEXT and (node.args or node.keywords):
            self.danger(f".{node.func.attr}(...): runs code given as text")
        if isinstance(node.func, ast.Attribute) and node.func.attr == "open" and node.args:
            self._open(ast.Call(node.func, [node.func, *node.args], node.keywords))

    def _ruled(self, node: ast.Call) -> bool:
        """Whether it is a function that one argument makes safe, and that argument does."""
        for name in self.candidates(node.func):
            rule = rule_for(self.scope.resolver.dotted(name).object)
            if rule is None:
                return False
            argument, wanted, may_miss = rule
            state = argument_state(node, argument, wanted)
            if state is False or (state is None and not (may_miss and len(node.args) < 3)):
                return False
        return bool(list(self.candidates(node.func)))

    def _getattr(self, node: ast.Call) -> None:
        if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str):
            self._chain(ast.Attribute(value=node.args[0], attr=node.args[1].value, ctx=ast.Load()))
        else:
            self.danger("getattr with a computed name")

    def _setattr(self, node: ast.Call) -> None:
        base = node.args[0] if node.args else None
        known = [name_of(self.scope.resolver.dotted(name)) for name in self.candidates(base)] if base else []
        if known and all(name.startswith("torch.backends.") for name in known):
            return
        if known or not isinstance(base, (ast.Subscript, ast.Attribute)):
            self.danger("setattr: changes an object of a package")
        else:
            self.look("setattr")

    def _type(self, node: ast.Call) -> None:
        if len(node.args) != 1 or node.keywords:
            self.danger("type with three arguments: builds a class")

    def _open(self, node: ast.Call) -> None:
        modes = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg in ("mode", None))]
        if all(isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rbt") for mode in modes):
            self.look("open: reads a file")
        else:
            self.danger("open: writes a file, or may")
