# SPDX-License-Identifier: Apache-2.0
"""Lists the mutants of a design: every fault of `operators` at every place that is evaluated at run time.

Parameters, ranges, replications, generate conditions, labels of cases, headers of loops and assertions stay
as they are: they are constants of elaboration, or no hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pyslang.syntax import SyntaxKind as K

from tb.mutants import operators
from tb.mutants.elaborate import Elaborated, Place
from tb.mutants.mutant import Kind, Mutant
from tb.mutants.source import Names, Node, Source, modules, names_of, nodes

_ASSIGNMENTS = (K.AssignmentExpression, K.NonblockingAssignmentExpression)
_COMPOUND = (K.AddAssignmentExpression, K.SubtractAssignmentExpression, K.OrAssignmentExpression)
_GENERATE = (K.GenerateBlock, K.LoopGenerate, K.IfGenerate, K.CaseGenerate, K.ElseClause, K.GenerateRegion)
_PROCESSES = (K.AlwaysFFBlock, K.AlwaysCombBlock, K.AlwaysBlock)
_LITERALS = (K.IntegerVectorExpression, K.IntegerLiteralExpression, K.UnbasedUnsizedLiteralExpression)
_PLAIN = (K.ParenthesizedExpression, K.SignedCastExpression, K.ConcatenationExpression)
CLOCKS = ("clk_i", "clk")
RESETS = ("rst_ni", "arst_n")


def mutants(sources: Sequence[Source], widths: Elaborated) -> list[Mutant]:
    """Return all mutants of a design, in the order of its files.

    Args:
        sources: the design.
        widths: the design as slang sees it.
    """
    names = names_of(sources)
    found: dict[tuple[str, int, int, str], Mutant] = {}
    for source in sources:
        for module in modules(source):
            for mutant in _Module(source, module, names, widths).all():
                found.setdefault((mutant.file, mutant.start, mutant.end, mutant.replacement), mutant)
    counts: Counter[tuple[str, str, str]] = Counter()
    numbered = []
    for _, mutant in sorted(found.items()):
        name = (mutant.file, mutant.text, mutant.change)
        numbered.append(replace(mutant, nth=counts[name]))
        counts[name] += 1
    return numbered


class _Module:
    """The mutants of one module."""

    def __init__(self, source: Source, module: Node, names: Names, widths: Elaborated) -> None:
        self.source = source
        self.module = module
        self.names = names
        self.name = module.header.name.valueText
        self.parameters = names.parameters[""] | names.parameters[self.name]
        self.widths = widths
        self.in_reset = False

    def all(self) -> Iterator[Mutant]:
        """Return them."""
        for member in self.module.members:
            yield from self.member(member)

    def mutant(self, node: Node, operator: str, text: str, kind: Kind = "expression") -> Mutant:
        """Return a mutant that replaces a node."""
        span = node.sourceRange
        begin, end = span.start.offset, span.end.offset
        original = self.source.of(node)
        return Mutant(
            self.source.name, begin, end, text, self.source.line(begin), operator, self.name, kind,
            self.source.line_text(begin), original,
        )  # fmt: skip

    def place(self, node: Node) -> Place:
        """Return where a node is."""
        return self.source.name, node.sourceRange.start.offset, node.sourceRange.end.offset

    def constant(self, node: Node) -> bool:
        """Return whether an expression is a constant by itself."""
        text = self.text(node)
        return node.kind in _LITERALS or text in self.parameters or text in self.names.members

    def text(self, node: Node) -> str:
        """Return a node's text in one line."""
        return self.source.of(node)

    # ----------------------------------------------------------------------------------------- members
    def member(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of a member of a module."""
        if node.kind == K.ContinuousAssign:
            for item in nodes(node):
                if item.kind in _ASSIGNMENTS:
                    yield from self.value(item.left, item.right)
        elif node.kind in _PROCESSES:
            yield from self.statement(node.statement)
        elif node.kind == K.FunctionDeclaration:
            for item in node.items:
                yield from self.statement(item)
        elif node.kind == K.HierarchyInstantiation:
            known = self.names.inputs.get(node.type.valueText)
            for instance in nodes(node) if known is not None else ():
                yield from self.instance(instance, known or set())
        elif node.kind in _GENERATE:
            for item in nodes(node):  # headers are no members
                yield from self.member(item)

    def instance(self, node: Node, inputs: set[str]) -> Iterator[Mutant]:
        """Return the mutants of an instance's connections."""
        if node.kind != K.HierarchicalInstance:
            return
        for item in nodes(node):
            if item.kind == K.NamedPortConnection and item.name.valueText in inputs:
                yield from self.connection(item)

    def connection(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of what an input is connected to."""
        name = node.name.valueText
        if name in CLOCKS:
            return
        operator = "reset" if name in RESETS else "strobe" if operators.STROBE.search(name) else "port"
        if node.expr is None:
            for value in ("'1",) if operator == "reset" else ("'0", "'1"):
                yield self.mutant(node, operator, value, "port")
        else:
            for value in ("'0", "'1"):
                if self.text(node.expr) not in (value, f"1'b{value[1]}"):
                    yield self.mutant(node.expr, operator, value)
            yield from self.expression(node.expr)

    # ----------------------------------------------------------------------------------------- statements
    def statement(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of a statement."""
        if node.kind == K.TimingControlStatement:
            yield from self.statement(node.statement)
        elif node.kind == K.SequentialBlockStatement:
            for item in node.items:
                yield from self.statement(item)
        elif node.kind == K.ConditionalStatement:
            yield from self.conditional(node)
        elif node.kind == K.CaseStatement:
            yield from self.expression(node.expr)
            for item in node.items:
                yield from self.statement(item.clause)
        elif node.kind in (K.ForLoopStatement, K.LoopStatement):
            yield from self.statement(node.statement)
        elif node.kind == K.ExpressionStatement:
            yield from self.assignment(node)
        elif node.kind == K.ReturnStatement and node.returnValue is not None:
            yield from self.expression(node.returnValue)

    def conditional(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of an if statement."""
        condition = node.predicate
        text = self.text(condition)
        inner = condition.conditions[0].expr
        if text.lstrip("!~") in RESETS:
            yield self.mutant(condition, "reset", "1'b0")
            self.in_reset = True
            yield from self.statement(node.statement)
            self.in_reset = False
        else:
            if inner.kind not in operators.ALREADY_NEGATED:
                yield self.mutant(condition, "condition", f"!{operators.side(text)}")
            yield self.mutant(condition, "condition", "1'b1")
            if node.elseClause is not None or node.statement.kind == K.SequentialBlockStatement:
                yield self.mutant(condition, "condition", "1'b0")
            yield from self.expression(inner)
            yield from self.statement(node.statement)
        if node.elseClause is not None:
            yield from self.statement(node.elseClause.clause)

    def assignment(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of an assignment."""
        expression = node.expr
        if expression.kind not in _ASSIGNMENTS + _COMPOUND:
            return
        yield self.mutant(node, "reset" if self.in_reset else "dropped", "", "statement")
        if expression.kind in _COMPOUND:
            yield from self.expression(expression.right)
        else:
            yield from self.value(expression.left, expression.right)

    def value(self, target: Node, value: Node) -> Iterator[Mutant]:
        """Return the mutants of what a variable is given."""
        if self.in_reset:
            for mutant in self.expression(value):
                yield replace(mutant, operator="reset")
            return
        name = self.text(target)
        if not self.constant(value) and value.kind != K.AssignmentPatternExpression:
            operator = "strobe" if operators.STROBE.search(name) else "stuck"
            scalar = self.widths.targets.get(self.place(target)) == {1}
            for other, what in operators.stuck(name, self.text(value), scalar):
                yield replace(self.mutant(value, operator, other), what=what)
        yield from self.expression(value)

    # ----------------------------------------------------------------------------------------- expressions
    def expression(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of an expression and its parts."""
        if node.kind in operators.BINARY:
            for operator, text in operators.binary(node.kind, self.text(node.left), self.text(node.right)):
                yield self.mutant(node, operator, text)
            yield from self.expression(node.left)
            yield from self.expression(node.right)
        elif node.kind in operators.UNARY:
            for operator, text in operators.unary(node.kind, self.text(node.operand)):
                yield self.mutant(node, operator, text)
            yield from self.expression(node.operand)
        elif node.kind == K.ConditionalExpression:
            condition, left, right = self.text(node.predicate), self.text(node.left), self.text(node.right)
            yield self.mutant(
                node,
                "swapped",
                f"{operators.side(condition)} ? {operators.side(right)} : {operators.side(left)}",
            )
            yield self.mutant(node, "condition", left)
            yield self.mutant(node, "condition", right)
            for part in (node.predicate.conditions[0].expr, node.left, node.right):
                yield from self.expression(part)
        elif node.kind in _LITERALS:
            for text in operators.literal(self.text(node)):
                yield self.mutant(node, "constant", text)
        elif node.kind == K.IdentifierName:
            yield from self.name_(node)
        else:
            yield from self.parts(node)

    def name_(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of a name: of a parameter's value, or of a member of an enumeration."""
        name = self.text(node)
        if name in self.names.members:
            yield self.mutant(node, "constant", operators.member(name, self.names.members[name]))
        elif name in self.parameters:
            yield self.mutant(node, "constant", f"{name} + 1'b1")
            yield self.mutant(node, "constant", f"{name} - 1'b1")

    def parts(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of an expression that has no operator of its own."""
        if node.kind == K.CastExpression:
            value = node.right.expression if node.right.kind == K.ParenthesizedExpression else node.right
            known = self.widths.casts.get(self.place(node), ())
            if any(inner <= outer for inner, outer in known) and not self.constant(value):
                lost = self.mutant(value, "width", operators.narrowed(self.text(value)))
                yield replace(lost, what="top bit lost")
            yield from self.expression(node.right)
        elif node.kind == K.SignedCastExpression:
            if self.text(node).startswith("signed"):
                yield self.mutant(node, "width", "un" + self.text(node))
            yield from self.expression(node.inner)
        elif node.kind == K.ConcatenationExpression:
            items = list(nodes(node))
            if len(items) == 2:
                yield self.mutant(node, "swapped", f"{{{self.text(items[1])}, {self.text(items[0])}}}")
            for item in items:
                yield from self.expression(item)
        elif node.kind == K.MultipleConcatenationExpression:
            yield from self.expression(node.concatenation)
        elif node.kind == K.InvocationExpression:
            yield from self.arguments(node)
        elif node.kind in (K.IdentifierSelectName, K.ElementSelectExpression):
            for select in nodes(node):
                yield from self.select(select)
        elif node.kind in (K.MemberAccessExpression, K.ScopedName):
            return
        elif node.kind in (K.InsideExpression, K.NamedStructurePatternMember, K.AssignmentPatternItem):
            yield from self.expression(node.expr)
        else:
            for child in nodes(node):
                yield from self.expression(child)

    def arguments(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of what a function is called with."""
        if node.left.kind != K.SystemName and node.arguments is not None:
            yield from self.expression(node.arguments)

    def select(self, node: Node) -> Iterator[Mutant]:
        """Return the mutants of an index; of a part select, of its beginning."""
        if node.kind == K.BitSelect:
            yield from self.expression(node.expr)
        elif node.kind in (K.AscendingRangeSelect, K.DescendingRangeSelect):
            yield from self.expression(node.left)
        elif node.kind in (K.ElementSelect, K.IdentifierSelectName, K.ElementSelectExpression):
            for child in nodes(node):
                yield from self.select(child)
