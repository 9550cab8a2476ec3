"""Every decision of the gate is held by a test: turned round, one at a time, some test of test_gate.py fails.

Comparisons are negated and moved by their boundary; `and`, `or`, `not`, conditions, filters, truth values, signs and
arithmetic are turned round.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys.evaluation import gate
from tests.evaluation import test_gate

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.GtE, ast.LtE), ast.LtE: (ast.Gt, ast.Lt), ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip

Change = tuple[str, Any]
"""A field of a node, and what it is instead."""

TREE = ast.parse(Path(gate.__file__).read_text(encoding="utf-8"))
TESTS = compile(Path(test_gate.__file__).read_text(encoding="utf-8"), test_gate.__file__, "exec")


def changes(node: ast.AST) -> Iterator[Change]:
    """Every way in which a node can be turned round."""
    match node:
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield "ops", [*ops[:place], other(), *ops[place + 1 :]]
        case ast.BoolOp(op=op):
            yield "op", ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "operand", ast.UnaryOp(ast.Not(), operand)
        case ast.UnaryOp(op=ast.USub()):
            yield "op", ast.UAdd()
        case ast.If(test=test) | ast.IfExp(test=test):
            yield "test", ast.UnaryOp(ast.Not(), test)
        case ast.comprehension(ifs=[test]):
            yield "ifs", [ast.UnaryOp(ast.Not(), test)]
        case ast.Constant(value=bool(value)):
            yield "value", not value
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield "op", ARITHMETIC[type(op)]()


def decisions() -> Iterator[tuple[str, int, Change]]:
    """(name, place of the node in the walk over the tree, change), of the bodies of functions alone."""
    functions = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
    bodies = {id(node): f.name for f in functions for line in f.body for node in ast.walk(line)}
    for place, node in enumerate(ast.walk(TREE)):
        if id(node) in bodies:
            for number, change in enumerate(changes(node)):
                line = f"{bodies[id(node)]}:{getattr(node, 'lineno', '')}:{ast.unparse(node)[:40]}"
                yield f"{line}-{change[0]}-{number}", place, change


def put_in_place(place: int, change: Change) -> None:
    """In ``sys.modules`` the gate with one decision turned round: tests that are executed anew import that one."""
    tree = copy.deepcopy(TREE)
    setattr(list(ast.walk(tree))[place], *change)
    module = ModuleType(gate.__name__)
    sys.modules[gate.__name__] = module
    exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), vars(module))


def run_the_tests() -> None:
    """All of test_gate.py, as plain functions, against the gate that is in ``sys.modules``."""
    module: dict[str, Any] = {"__name__": test_gate.__name__}
    exec(TESTS, module)
    for name, test in module.items():
        if name.startswith("test_"):
            for arguments in cases(test):
                test(**arguments)


def cases(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each call that pytest would make."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        yield {}
        return
    [mark] = marks
    names, rows = mark.args
    for row in rows:
        yield dict(zip(names, row, strict=True)) if isinstance(names, tuple) else {names: row}


def a_test_fails() -> bool:
    try:
        run_the_tests()
    except (Exception, pytest.fail.Exception):
        return True
    return False


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, gate.__name__, gate)


DECISIONS = list(decisions())


def test_the_gate_as_it_is_passes() -> None:
    run_the_tests()
    assert len(DECISIONS) > 40


@pytest.mark.parametrize(
    ("place", "change"), [row[1:] for row in DECISIONS], ids=[row[0] for row in DECISIONS]
)
def test_a_decision_turned_round_is_noticed(place: int, change: Change) -> None:
    put_in_place(place, change)

    assert a_test_fails()
