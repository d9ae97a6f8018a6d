"""Expressions over items, such as `price < 20 and categories in ["tea", "coffee"]`; taught in docs/expressions.md."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken

from recsys.errors import InvalidInput
from recsys.filters.condition import KINDS, AllOf, AnyOf, Bound, Condition, Literal, Not, OneOf, comparisons
from recsys.messages.item import Item

MAX_LENGTH = 2048
MAX_TOGETHER = 8192
"""Characters of all the boosts of an answer."""
MAX_DEPTH = 32
MAX_COMPARISONS = 64
MAX_VALUES = 256
CACHED = 512

GRAMMAR = r"""
?start: some
?some: all (_OR all)*
?all: negation (_AND negation)*
?negation: _NOT negation -> negated | comparison | "(" some ")"
?comparison: name EQUALITY literal -> equal
    | name ORDER (number | text) -> bound
    | name _IN list -> one_of
    | name _NOT _IN list -> none_of
    | name -> is_true
list: "[" (literal ("," literal)*)? "]"
?literal: number | text | flag
name: NAME -> plain | QUOTED_NAME -> quoted
number: NUMBER
text: TEXT -> quoted
flag: FLAG

_OR.2: /or\b/i
_AND.2: /and\b/i
_NOT.2: /not\b/i
_IN.2: /in\b/i
FLAG.2: /(true|false)\b/i
NAME: /[^\W\d]\w*/
QUOTED_NAME: /`([^`\\]|\\.)+`/s
TEXT: /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'/s
NUMBER: /-?\d+(\.\d+)?(e[+-]?\d+)?/i
EQUALITY: "=" | "!="
ORDER: "<=" | ">=" | "<" | ">"
%ignore /\s+/
"""

_SPOKEN = {
    "NAME": "a name",
    "NUMBER": "a number",
    "TEXT": 'a "text"',
    "FLAG": "true or false",
    "EQUALITY": "= or !=",
    "ORDER": "<, <=, > or >=",
    "LSQB": "a [list]",
    "RSQB": "]",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "_AND": "and",
    "_OR": "or",
    "_NOT": "not",
    "_IN": "in",
    "$END": "the end",
}
_UNORDERED = {"item_id", "available"}
_WORDS: dict[type, str] = {str: "text", float: "a number", bool: "true or false"}


Named = tuple[str, str]
"""The field of a request or a placement, and the text of its expression."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; equal texts are equal."""

    text: str
    root: Condition = field(compare=False, repr=False)

    def matches(self, item: Item | None) -> bool:
        """Return whether it holds for `item`; an item of which nothing is known has no properties."""
        return self.root.holds(item)


@v_args(inline=True)
class _Tree(Transformer[Token, Condition]):
    """Makes the tree while the parser runs, from the leaves up; nothing here recurses."""

    def plain(self, token: Token) -> str:
        """The name as it is written."""
        return str(token)

    def quoted(self, token: Token) -> str:
        """The name or text without its quotes and escapes."""
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)

    def number(self, token: Token) -> float:
        """The number as a float."""
        return float(token)

    def flag(self, token: Token) -> bool:
        """The value of `true` or `false`."""
        return token.lower() == "true"

    def list(self, *values: Literal) -> tuple[Literal, ...]:
        """The literals of the list."""
        return values

    def is_true(self, name: str) -> Condition:
        """The condition of a name that stands alone: the property is true."""
        return OneOf.of(name, (True,))

    def equal(self, name: str, relation: Token, value: Literal) -> Condition:
        """The condition for `=`, or its negation for `!=`."""
        equal = OneOf.of(name, (value,))
        return equal if relation == "=" else self.negated(equal)

    def bound(self, name: str, relation: Token, limit: str | float) -> Condition:
        """The condition for `<`, `<=`, `>` or `>=`."""
        return Bound(name, str(relation), limit)

    def one_of(self, name: str, values: tuple[Literal, ...]) -> Condition:
        """The condition for `in`."""
        return OneOf.of(name, values)

    def none_of(self, name: str, values: tuple[Literal, ...]) -> Condition:
        """The condition for `not in`."""
        return self.negated(OneOf.of(name, values))

    def negated(self, part: Condition) -> Condition:
        """The condition for `not`."""
        return Not(part, part.depth + 1)

    def all(self, *parts: Condition) -> Condition:
        """The condition for parts joined by `and`."""
        return AllOf(parts, max(part.depth for part in parts) + 1)

    def some(self, *parts: Condition) -> Condition:
        """The condition for parts joined by `or`."""
        return AnyOf(parts, max(part.depth for part in parts) + 1)


_parser = Lark(GRAMMAR, parser="lalr", lexer="basic", transformer=_Tree())


@lru_cache(maxsize=CACHED)
def compile_expression(text: str) -> Expression:
    """The compiled expression, cached by its text. Raises `InvalidInput` naming the field `filter`."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput("filter", f"{len(text)} characters; at most {MAX_LENGTH} are allowed")
    try:
        root: Condition = _parser.parse(text)  # type: ignore[assignment]  # lark does not know of the transformer's result
    except UnexpectedInput as error:
        raise InvalidInput("filter", _syntax_message(error, text)) from None
    if root.depth > MAX_DEPTH:
        raise InvalidInput("filter", f"nested deeper than {MAX_DEPTH}")
    leaves = list(comparisons(root))
    if len(leaves) > MAX_COMPARISONS:
        raise InvalidInput("filter", f"{len(leaves)} comparisons; at most {MAX_COMPARISONS} are allowed")
    for leaf in leaves:
        _check(leaf)
    return Expression(text, root)


def check_lengths(named: Sequence[Named]) -> None:
    """Check the lengths of all texts, before any is compiled. Raises `InvalidInput` naming a field that is too long."""
    together = 0
    for field_name, text in named:
        if len(text) > MAX_LENGTH:
            raise InvalidInput(field_name, f"{len(text)} characters; at most {MAX_LENGTH} are allowed")
        together += 0 if field_name == "filter" else len(text)
    if together > MAX_TOGETHER:
        raise InvalidInput("boosts", f"{together} characters together; at most {MAX_TOGETHER} are allowed")


def compile_named(named: Sequence[Named]) -> None:
    """Compile and cache each. Raises `InvalidInput` naming the field of the first that cannot be compiled."""
    for field_name, text in named:
        try:
            compile_expression(text)
        except InvalidInput as error:
            raise InvalidInput(field_name, error.reason) from None


def _check(leaf: OneOf | Bound) -> None:
    """Check the bounds that the grammar cannot express. Raises `InvalidInput`."""
    name = leaf.name
    values: tuple[Literal, ...] = (*leaf.values, *leaf.flags) if isinstance(leaf, OneOf) else (leaf.limit,)
    if len(values) > MAX_VALUES:
        raise InvalidInput("filter", f"{name}: {len(values)} values in a list; at most {MAX_VALUES} are allowed")
    if isinstance(leaf, Bound) and name in _UNORDERED:
        raise InvalidInput("filter", f"{name} has no order, so {leaf.relation} does not apply to it")
    for value in values:
        if name in KINDS and type(value) is not KINDS[name]:
            raise InvalidInput("filter", f"{name} is {_WORDS[KINDS[name]]}, so it cannot be compared with {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise InvalidInput("filter", f"{name}: a number is too large")


def _syntax_message(error: UnexpectedInput, text: str) -> str:
    """Where it went wrong, and what could have stood there."""
    if isinstance(error, UnexpectedToken):
        at_end = error.token.type == "$END"
        position = len(text) if at_end else error.pos_in_stream or 0
        accepts = error.accepts or error.expected
        expected = ", ".join(sorted(_SPOKEN.get(name, name) for name in accepts - {"QUOTED_NAME"}))
        token = "the end" if at_end else repr(str(error.token))
        return f"at column {position + 1}: expected {expected}, found {token}"
    position = error.pos_in_stream or 0
    kind = "a text without its closing quote" if text[position] in "\"'`" else f"an odd character {text[position]!r}"
    return f"at column {position + 1}: {kind}"
