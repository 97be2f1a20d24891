"""The calls in a ``$`` expression, and what they are given."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

from monai_lighter.inspection.attributes import method_verdicts, open_verdict
from monai_lighter.inspection.judge import judge_located, name_of
from monai_lighter.inspection.policy import LOCATED
from monai_lighter.inspection.report import Level, Verdict
from monai_lighter.inspection.resolve import Found, Scope, parameters
from monai_lighter.inspection.safeguards import call_verdict, safeguard_for, unpickles
from monai_lighter.inspection.strings import is_written
from monai_lighter.inspection.syntax import alternatives, constant, reference_path

__all__ = ["CallReader"]

PLAIN_CALLED = (ast.Name, ast.Attribute, ast.Lambda, ast.Call)


class CallReader(ast.NodeVisitor):
    """Collects what is not harmless in calls.

    Attributes:
        verdicts: what was found.
        calls: number of calls.
        argument: name of the argument that is being read; of several, one inside the other, one that something is written to.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.verdicts: list[Verdict] = []
        self.calls = 0
        self.argument = ""

    def danger(self, why: str) -> None:
        self.verdicts.append(Verdict(Level.DANGER, why))

    def look(self, why: str) -> None:
        self.verdicts.append(Verdict(Level.LOOK, why))

    def candidates(self, node: ast.AST) -> Iterator[str]:
        """Dotted names that a name, a chain of attributes or a reference may stand for."""
        raise NotImplementedError

    def chain(self, node: ast.AST) -> None:
        """Reads a name with its attributes, as a whole."""
        raise NotImplementedError

    def found(self, node: ast.AST) -> list[Found]:
        """What a name, a chain of attributes or a reference may lead to."""
        return [self.scope.resolver.dotted(name) for name in self.candidates(node)]

    def visit_Call(self, node: ast.Call) -> None:
        self.calls += 1
        if isinstance(node.func, ast.Call) and (named := self._named_attribute(node.func)):
            for default in node.func.args[2:]:
                self.visit(default)
            node = ast.Call(named, node.args, node.keywords)
        names = {name_of(found) for found in self.found(node.func)}
        special = {
            "builtins.getattr": self._getattr,
            "builtins.hasattr": self._hasattr,
            "builtins.setattr": self._setattr,
            "builtins.type": self._type,
        }
        if names & {"builtins.open", "_io.open", "io.open"}:
            self.verdicts.append(open_verdict(node))
        elif len(names) == 1 and (name := next(iter(names))) in special:
            if special[name](node):
                node = ast.Call(node.func, node.args[1:], node.keywords)
        elif not self._guarded(node):
            if not _is_plainly_called(node.func):
                self.look("calls something that is computed")
            self.verdicts += method_verdicts(node)
            if isinstance(node.func, ast.Attribute):
                self.chain(node.func)
            else:
                self.visit(node.func)
        self._arguments(node)

    def _arguments(self, node: ast.Call) -> None:
        """What a call is given, each by the name of the argument that it is."""
        names = self._parameters(node)
        for i, value in enumerate(node.args):
            if isinstance(value, ast.Starred):
                self._spread(set(names[i:]))
            self._argument(names[i] if i < len(names) else "", value)
        for keyword in node.keywords:
            if keyword.arg is not None:
                self._argument(keyword.arg, keyword.value)
                continue
            keys = keyword.value.keys if isinstance(keyword.value, ast.Dict) else [None]
            if not all(isinstance(key, ast.Constant) for key in keys):
                self._spread(set(names))
            self.visit(keyword.value)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.visit(key)
            self._argument(str(key.value) if isinstance(key, ast.Constant) else "", value)

    def _parameters(self, node: ast.Call) -> list[str]:
        """Names of the arguments by position, where one class is called, or is to be called later."""
        later = bool(node.args) and "functools.partial" in self.candidates(node.func)
        called = self.found(node.args[0] if later else node.func)
        names = parameters(called[0].object) if called else []
        return ["", *names] if later else names

    def _spread(self, names: set[str]) -> None:
        if names & LOCATED:
            self.danger("what is looked up by its name, and called, may be among arguments that are computed")

    def _argument(self, name: str, value: ast.expr) -> None:
        if name in LOCATED:
            self.located(value)
        if unpickles(name, constant(value)):
            self.danger(f"{name}: loads pickles, which run code")
        if any(found.object is os.environ for found in self.found(value)):
            self.look("os.environ is handed on: may be changed")
        outer = self.argument
        self.argument = outer if is_written(outer) else name or outer
        self.visit(value)
        self.argument = outer

    def located(self, value: ast.AST) -> None:
        """A value whose text is looked up as a ``_target_`` is, and called."""
        for part in alternatives(value):
            found = self.found(part)
            if isinstance(part, ast.Constant) or found:
                texts = [part.value] if isinstance(part, ast.Constant) else [each.object for each in found]
                for text in texts:
                    if isinstance(text, str):
                        self.verdicts += judge_located(text, self.scope.resolver)
            elif (path := reference_path(part)) is not None:
                self.verdicts += self.scope.located(path)
            elif isinstance(part, ast.Attribute) and reference_path(part.value) is not None:
                self.look("an attribute of another item is looked up by its name, and called, if it is a text")
            elif not isinstance(part, ast.Call) or not self._makes_object(part):
                self.danger("computed when the config runs, then looked up by its name, and called")

    def _makes_object(self, call: ast.Call) -> bool:
        """Whether a call gives no text: it is of a class, or of code that is looked at anyway."""
        made = self.found(call.func)
        fine = [
            f.kind in ("bundle", "foreign") or (isinstance(f.object, type) and not issubclass(f.object, str))
            for f in made
        ]
        return bool(fine) and all(fine)

    def _guarded(self, node: ast.Call) -> bool:
        """Whether it is a function that one argument makes safe, and that argument does. Notes what leaving it out does."""
        guards = [safeguard_for(found.object) for found in self.found(node.func)]
        verdicts = [call_verdict(guard, node) if guard else None for guard in guards]
        if not verdicts or None in verdicts:
            return False
        self.verdicts += [verdict for verdict in verdicts if verdict and verdict.level]
        return True

    def _named_attribute(self, node: ast.AST) -> ast.Attribute | None:
        """``a.b`` for ``getattr(a, 'b')``."""
        if not isinstance(node, ast.Call) or "builtins.getattr" not in {
            name_of(found) for found in self.found(node.func)
        }:
            return None
        name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
        return ast.Attribute(value=node.args[0], attr=name, ctx=ast.Load()) if isinstance(name, str) else None

    def _getattr(self, node: ast.Call) -> bool:
        """As all of these: whether the first argument is read here."""
        named = self._named_attribute(node)
        if named:
            self.visit(named)
        else:
            self.danger("getattr with a computed name")
        return named is not None

    def _hasattr(self, node: ast.Call) -> bool:
        return bool(node.args) and bool(self.found(node.args[0]))

    def _setattr(self, node: ast.Call) -> bool:
        known = [name_of(found) for found in self.found(node.args[0])] if node.args else []
        if known and all(name.startswith("torch.backends.") for name in known):
            return True
        if known or not node.args or not isinstance(node.args[0], (ast.Subscript, ast.Attribute)):
            self.danger("setattr: changes an object of a package")
        else:
            self.look("setattr")
        return False

    def _type(self, node: ast.Call) -> bool:
        if len(node.args) != 1 or node.keywords:
            self.danger("type with three arguments: builds a class")
        return False


def _is_plainly_called(function: ast.AST) -> bool:
    """Whether what is called is named, or an item of something that is: no item of something that is computed."""
    if not isinstance(function, ast.Subscript):
        return isinstance(function, PLAIN_CALLED)
    while isinstance(function, (ast.Subscript, ast.Attribute)):
        function = function.value
    return isinstance(function, ast.Name)
