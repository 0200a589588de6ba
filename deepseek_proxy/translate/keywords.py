"""The keywords of a JSON schema: what each may hold, and the nearest acceptable schema for one that errs.

DeepSeek checks a tool's schema against the meta-schema, resolves every `$ref` within it, and answers 400
for the whole request where either fails. `repair()` drops or mends only what fails; a schema that passes
comes back as the same object. Refuses to know what a tool is and what its schema's root must be.
JSON Schema 2020-12, with what drafts 6 to 2019-09 say otherwise; measured with the validator of
deepseek-recipe 0.2.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from operator import is_not
from typing import Any, Final
from urllib.parse import unquote

from deepseek_proxy.translate import patterns

MAX_DEPTH: Final = 48
"""Subschemas nested deeper become `{}`: DeepSeek reads no JSON of more than 128 levels, two for each."""

_MAX_ROUNDS: Final = 6
_DROP: Final = object()
_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
# What people and generators write for a type in place of its name.
_TYPE_SYNONYMS: Final = {
    "bool": "boolean",
    "dict": "object",
    "double": "number",
    "float": "number",
    "int": "integer",
    "list": "array",
    "map": "object",
    "none": "null",
    "str": "string",
}
# Drafts whose `items` may be an array. Draft 4 has other meanings for more keywords: it is read as 2020-12.
_LIST_ITEMS_DRAFT: Final = re.compile(r"https?://json-schema\.org/(draft-0[67]|draft/2019-09)/schema#?")
_CURRENT_DRAFT: Final = re.compile(r"https?://json-schema\.org/(draft/2020-12/)?schema#?")
_POINTER: Final = re.compile(r"#(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?")
_ANCHOR: Final = re.compile(r"[A-Za-z_][-A-Za-z0-9._]*")
_ROOT_ID: Final = re.compile(r"(?:https?://|urn:)[A-Za-z0-9:/._~-]+#?")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a validator of 2020-12 needs to know of a schema.

    `repaired` means the same and can be checked against without fear: its references resolve. It is the
    schema itself where nothing is wrong with it. `unresolved` are the references that did not,
    `property_patterns` the regular expressions for the names of members.
    """

    repaired: Any
    unresolved: tuple[str, ...]
    property_patterns: tuple[str, ...]


def repair(schema: Any) -> Any:
    """`schema` itself where DeepSeek accepts it, else the nearest schema that it accepts.

    A schema is an object or a boolean; anything else becomes `{}`.
    """
    return _repair(schema, upstream=True)


def survey(schema: Any) -> Survey:
    """What `schema` holds, with every regular expression taken as it is."""
    walk = _Walk(schema, frozenset(), upstream=False)
    walk.root()
    unresolved = dict.fromkeys((*walk.unresolved, *sorted(walk.bad_refs)))
    return Survey(_repair(schema, upstream=False), tuple(unresolved), tuple(walk.property_patterns))


def _repair(schema: Any, *, upstream: bool) -> Any:
    bad_refs: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        # A repair may take away what a reference elsewhere points to, so look again until nothing changes.
        walk = _Walk(schema, bad_refs, upstream=upstream)
        repaired = walk.root()
        if repaired is schema and not walk.bad_refs:
            return schema
        schema = repaired
        bad_refs |= walk.bad_refs
    return _Walk(schema, None, upstream=upstream).root()


def normalise_type(value: Any) -> str | None:
    """The type name that `value` means, or None."""
    if value is None or not isinstance(value, str):
        return None
    name = value.strip().lower()
    return name if name in _TYPES else _TYPE_SYNONYMS.get(name)


class _Walk:
    """One pass over a schema. Copies on write: a part that is kept is the same object.

    `upstream` says whose rules hold: DeepSeek's, or those of a validator of 2020-12 that takes any
    pattern.
    """

    def __init__(self, schema: Any, bad_refs: Set[str] | None, *, upstream: bool) -> None:
        self._root = schema
        self._known_bad_refs = bad_refs  # None: no reference is trusted
        self._upstream = upstream
        self._visited: set[int] = set()
        self._targets: dict[str, dict[str, Any]] = {}  # still to be looked at
        self._anchors: set[str] = set()
        self._anchor_refs: set[str] = set()
        self._list_items = False
        self.bad_refs: set[str] = set()  # found only at the end to point to nothing, or to no good schema
        self.unresolved: dict[str, None] = {}
        self.property_patterns: list[str] = []

    def root(self) -> Any:
        draft = self._root.get("$schema") if isinstance(self._root, dict) else None
        self._list_items = (
            self._upstream and isinstance(draft, str) and _LIST_ITEMS_DRAFT.fullmatch(draft) is not None
        )
        repaired = self.schema(self._root, 0)
        while self._targets:
            # A reference may point to where no schema is expected, as `#/components/schemas/X` does.
            ref, target = self._targets.popitem()
            if id(target) not in self._visited and self.schema(target, 1) is not target:
                self.bad_refs.add(ref)
        self.bad_refs |= {ref for ref in self._anchor_refs if ref[1:] not in self._anchors}
        return repaired

    def schema(self, value: Any, depth: int) -> Any:
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict) or depth > MAX_DEPTH:
            return {}
        self._visited.add(id(value))
        if isinstance(value.get("items"), list) and not self._list_items:
            # Drafts before 2020-12 wrote tuples so.
            value = {
                ("prefixItems" if k == "items" else k): v for k, v in value.items() if k != "prefixItems"
            }
        changes = None  # made where there is one: most schemas are fine
        for key, item in value.items():
            fix = _KEYWORDS.get(key)
            if fix is not None and (fixed := fix(self, item, depth)) is not item:
                changes = changes or {}
                changes[key] = fixed
        return _changed(value, changes) if changes else value

    @staticmethod
    def _fix_values(mapping: dict[str, Any], fix: Callable[[Any, int], Any], depth: int) -> dict[str, Any]:
        """`mapping` with every value fixed; itself where nothing changes."""
        changes = None
        for key, item in mapping.items():
            if (fixed := fix(item, depth)) is not item:
                changes = changes or {}
                changes[key] = fixed
        return _changed(mapping, changes) if changes else mapping

    # -- kinds of keywords; each returns the value itself, a mended one, or _DROP

    def subschema(self, value: Any, depth: int) -> Any:
        return self.schema(value, depth + 1) if isinstance(value, (dict, bool)) else _DROP

    def schema_list(self, value: Any, depth: int) -> Any:
        if not isinstance(value, list) or not value:
            return _DROP
        fixed = [self.schema(item, depth + 1) for item in value]
        return fixed if any(map(is_not, fixed, value)) else value

    def schema_map(self, value: Any, depth: int) -> Any:
        if value == []:
            return {}  # how PHP writes an empty map
        if not isinstance(value, dict):
            return _DROP
        return self._fix_values(value, self.schema, depth + 1)

    def pattern_map(self, value: Any, depth: int) -> Any:
        fixed = self.schema_map(value, depth)
        if not isinstance(fixed, dict):
            return fixed
        self.property_patterns += fixed
        refused = {key: _DROP for key in fixed if not self._allowed(key)}
        return _changed(fixed, refused) if refused else fixed

    def items(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):  # allowed by the draft, or renamed already
            return self.schema_list(value, depth)
        return self.subschema(value, depth)

    def dependencies(self, value: Any, depth: int) -> Any:
        if not isinstance(value, dict):
            return _DROP
        return self._fix_values(value, self._dependency, depth)

    def _dependency(self, value: Any, depth: int) -> Any:
        return self.names(value, depth) if isinstance(value, list) else self.subschema(value, depth)

    def dependent_required(self, value: Any, depth: int) -> Any:
        if not isinstance(value, dict):
            return _DROP
        return self._fix_values(value, self.names, depth)

    def names(self, value: Any, _depth: int) -> Any:
        """A list of distinct strings."""
        if not isinstance(value, list):
            return _DROP
        fixed = list(dict.fromkeys(name for name in value if isinstance(name, str)))
        return value if fixed == value else fixed

    def type(self, value: Any, _depth: int) -> Any:
        if isinstance(value, str) and value in _TYPES:
            return value
        if not isinstance(value, list):
            name = normalise_type(value)
            return _DROP if name is None else value if name == value else name
        named = (normalise_type("null" if name is None else name) for name in value)
        fixed = list(dict.fromkeys(name for name in named if name is not None))
        return _DROP if not fixed else value if fixed == value else fixed

    def pattern(self, value: Any, _depth: int) -> Any:
        return value if isinstance(value, str) and self._allowed(value) else _DROP

    def text(self, value: Any, _depth: int) -> Any:
        return value if isinstance(value, str) else _DROP

    def flag(self, value: Any, _depth: int) -> Any:
        return value if isinstance(value, bool) else _DROP

    def array(self, value: Any, _depth: int) -> Any:
        return value if isinstance(value, list) else _DROP

    def number(self, value: Any, _depth: int) -> Any:
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else _DROP

    def divisor(self, value: Any, depth: int) -> Any:
        return value if self.number(value, depth) is value and value > 0 else _DROP

    def count(self, value: Any, depth: int) -> Any:
        whole = self.number(value, depth) is value and (isinstance(value, int) or value.is_integer())
        return value if whole and value >= 0 else _DROP

    def anchor(self, value: Any, _depth: int) -> Any:
        if not isinstance(value, str) or not _ANCHOR.fullmatch(value):
            return _DROP
        self._anchors.add(value)
        return value

    def identifier(self, value: Any, depth: int) -> Any:
        """Kept at the root only: further down it would change what the references around it mean."""
        return value if depth == 0 and isinstance(value, str) and _ROOT_ID.fullmatch(value) else _DROP

    def draft(self, value: Any, _depth: int) -> Any:
        known = isinstance(value, str) and (
            _LIST_ITEMS_DRAFT.fullmatch(value) or _CURRENT_DRAFT.fullmatch(value)
        )
        return value if known else _DROP

    def removed(self, value: Any, _depth: int) -> Any:
        return _DROP

    def reference(self, value: Any, _depth: int) -> Any:
        if not isinstance(value, str) or self._known_bad_refs is None or value in self._known_bad_refs:
            return _DROP
        if self._resolves(value):
            return value
        self.unresolved[value] = None
        return _DROP

    def _resolves(self, ref: str) -> bool:
        if ref[:1] == "#" and _ANCHOR.fullmatch(ref, 1):
            self._anchor_refs.add(ref)
            return True
        target = _lookup(self._root, ref)
        if isinstance(target, dict):
            self._targets[ref] = target
        return isinstance(target, (dict, bool))

    def _allowed(self, pattern: str) -> bool:
        return not self._upstream or patterns.parse(pattern) is not None


def _changed(mapping: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` with the values of `changes`, in the same order, and without those that are dropped."""
    changed = {**mapping, **changes}
    return {key: value for key, value in changed.items() if value is not _DROP}


def _lookup(root: Any, ref: str) -> Any:
    """What the JSON pointer in `ref` (`#/$defs/A`) points to in `root`; None where it is none or misses."""
    if not _POINTER.fullmatch(ref):
        return None
    target = root
    for step in ref.split("/")[1:]:
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict):
            target = target.get(step)
        elif isinstance(target, list) and step.isascii() and step.isdigit() and int(step) < len(target):
            target = target[int(step)]
        else:
            return None
    return target


_Fix = Callable[[_Walk, Any, int], Any]

_KINDS: Final[tuple[tuple[_Fix, str], ...]] = (
    (
        _Walk.subschema,
        "additionalProperties contains contentSchema else if not propertyNames then "
        "unevaluatedItems unevaluatedProperties",
    ),
    (_Walk.items, "items"),
    (_Walk.schema_list, "allOf anyOf oneOf prefixItems"),
    (_Walk.schema_map, "$defs definitions dependentSchemas properties"),
    (_Walk.pattern_map, "patternProperties"),
    (_Walk.dependencies, "dependencies"),
    (_Walk.dependent_required, "dependentRequired"),
    (_Walk.names, "required"),
    (_Walk.type, "type"),
    (_Walk.pattern, "pattern"),
    (_Walk.text, "$comment contentEncoding contentMediaType description format title"),
    (_Walk.flag, "deprecated readOnly uniqueItems writeOnly"),
    (_Walk.array, "enum examples"),
    (_Walk.number, "exclusiveMaximum exclusiveMinimum maximum minimum"),
    (_Walk.divisor, "multipleOf"),
    (
        _Walk.count,
        "maxContains maxItems maxLength maxProperties minContains minItems minLength minProperties",
    ),
    (_Walk.anchor, "$anchor $dynamicAnchor"),
    (_Walk.identifier, "$id"),
    (_Walk.draft, "$schema"),
    (_Walk.reference, "$dynamicRef $recursiveRef $ref"),
    # Codex marks some parameters of its multi-agent tools with `encrypted`, and `strict` belongs to the
    # tool: neither is a keyword of JSON Schema.
    (_Walk.removed, "$recursiveAnchor $vocabulary encrypted strict"),
)
_KEYWORDS: Final[Mapping[str, _Fix]] = {name: fix for fix, names in _KINDS for name in names.split()}
