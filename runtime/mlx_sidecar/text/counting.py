"""Puts the counting of ``budget`` into a parsed template: ticks into loops, guards around what makes values."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from .budget import Budget
from .guards import values

# Filters by names that a template can hardly write.
TICK, CONCATENATED, MADE, WEIGHED, SPREAD = "tick ", "concatenated ", "made ", "weighed ", "spread "
FILTERS = {
    TICK: values.tick,
    CONCATENATED: values.concatenated,
    MADE: values.made,
    WEIGHED: values.weighed,
    SPREAD: values.spread,
}

# What compiling costs grows with these; the largest template in use has a tenth.
NODES_LIMIT = 50_000


def count(template: nodes.Template, budget: Budget) -> nodes.Template:
    """``template`` that spends a budget when it is rendered. Refuses, in ``budget``'s way, what is too large."""
    if sum(1 for _ in template.find_all(nodes.Node)) > NODES_LIMIT:
        budget.refuse(f"more than {NODES_LIMIT} parts")
    counted = _Counting().visit(template)
    assert isinstance(counted, nodes.Template)
    return counted


def _filter(value: nodes.Expr, name: str, line: int) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=line)


class _Counting(NodeTransformer):
    def visit_For(self, node: nodes.For, *args: Any) -> nodes.For:  # noqa: N802  # jinja2's names, here and below
        self.generic_visit(node)
        # Plain text in the body is made anew at each turn, and nothing else would count it.
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        tick = nodes.ExprStmt(_filter(nodes.Const(written), TICK, node.lineno), lineno=node.lineno)
        node.body.insert(0, tick)
        if node.test is not None:  # a loop that leaves everything out never gets to its body
            node.test = nodes.And(_filter(nodes.Const(0), TICK, node.lineno), node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat, *args: Any) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), CONCATENATED, node.lineno)

    def _visit_called(self, node: nodes.Call | nodes.Filter | nodes.Test, *args: Any) -> nodes.Node:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _filter(node.dyn_args, SPREAD, node.lineno)
        return node

    visit_Call = visit_Filter = visit_Test = _visit_called  # noqa: N815

    def visit_Getitem(self, node: nodes.Getitem, *args: Any) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, MADE, node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List, *args: Any) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _weighed(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple, *args: Any) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _weighed(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict, *args: Any) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _weighed(node, [part for pair in node.items for part in (pair.key, pair.value)])


def _weighed(node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Expr:
    constant = all(isinstance(part, nodes.Const) for part in parts)
    return node if constant else _filter(node, WEIGHED, node.lineno)
