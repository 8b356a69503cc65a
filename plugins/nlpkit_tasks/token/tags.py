"""Tags of words, and the entities that they mark: BIO, IOB1 and BIOES, all read in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMES = ("IOB1", "BIO", "BIOES")
"""How tags are written; in IOB1 a B only parts neighbours of one type."""
_BEGINS = ("B-", "I-", "E-", "S-")


class Entity(NamedTuple):
    """An entity: its type, its first word, and the word after its last one."""

    label: str
    start: int
    end: int


def entities(tags: Iterable[str]) -> list[Entity]:
    """The entities of a row's tags, in order, as conlleval (Tjong Kim Sang 2000) reads them.

    I and E go on with an entity of their type that B or I is part of; else they begin one. So any
    row can be read, and each scheme is.
    """
    found, begun, before = list[Entity](), 0, "O"
    for place, tag in enumerate((*tags, "O")):
        goes_on = before[0] in "BI" and tag[0] in "IE" and before[1:] == tag[1:]
        if not goes_on:
            if before != "O":
                found.append(Entity(before[2:], begun, place))
            begun = place
        before = tag
    return found


def names(labels: Iterable[str]) -> list[str]:
    """The tags that are learned, by id: O, and B and I of each type of entity."""
    return ["O", *(f"{begins}-{label}" for label in labels for begins in "BI")]


def is_tag(tag: object) -> bool:
    """Whether it is O, or B, I, E or S with a type."""
    return tag == "O" or (isinstance(tag, str) and len(tag) > 2 and tag[:2] in _BEGINS)


def scheme_of(tags: Sequence[str]) -> str:
    """The first of the schemes that can be a row's."""
    pairs = zip(("O", *tags), tags, strict=False)
    if any(tag[0] in "ES" for tag in tags):
        return "BIOES"
    return "BIO" if any(tag[0] == "B" and tag[1:] != last[1:] for last, tag in pairs) else "IOB1"


def follows(tags: Sequence[str], scheme: str) -> bool:
    """Whether a row's entities begin, and in BIOES end, as the scheme wants it."""
    ends = {(tags[each.start][0], tags[each.end - 1][0]) for each in entities(tags)}
    allowed = {
        "IOB1": {("B", "B"), ("B", "I"), ("I", "I")},
        "BIO": {("B", "B"), ("B", "I")},
        "BIOES": {("B", "E"), ("S", "S")},
    }
    return ends <= allowed[scheme]
