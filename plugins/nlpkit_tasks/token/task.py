"""Entities in a text or in a list of words: what is in a row."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpkit.contracts import Row, Schema, Task, Vocabulary
from nlpkit.errors import DataError
from nlpkit_tasks import cells
from nlpkit_tasks.token.codec import TokenCodec
from nlpkit_tasks.token.tags import SCHEMES, Entity, entities, is_tag, scheme_of
from nlpkit_tasks.token.words import Words, found, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nlpkit.contracts import TextInput
    from nlpkit_tasks.token.config import TokenConfig

_WRITE = (
    'write ["B-person", "O"], a tag for each word, or [{"start": 0, "end": 5, "label": "person"}]'
)


class Target(NamedTuple):
    """What a row marks.

    Attributes:
        entities: By words, in order.
        tags: The tags that were given; none where spans were.
        cuts: Whether a span starts or ends inside a word, which is taken whole.
    """

    entities: Sequence[Entity]
    tags: Sequence[str] = ()
    cuts: bool = False


class TokenTask(Task):
    """The first half of `token`.

    The schema holds `labels`, the types of entities, sorted; `counts`, how many rows have each; and
    the `scheme` of the tags.
    """

    words = True

    def __init__(self, options: TokenConfig) -> None:
        self.options = options
        self.columns = {"text": (options.text,)}
        self.reads = [options.text, options.label]

    def texts(self, row: Row, *, targets: bool) -> Mapping[str, TextInput]:
        """The text; words with a blank between each two."""
        return {"text": self.words_of(row).text}

    def stratum(self, row: Row) -> str:
        """The type of the first entity, or ""."""
        target = self.target(row, self.words_of(row))
        return target.entities[0].label if target.entities else ""

    def fit(self, rows: Iterable[Row]) -> Schema:
        """The types of entities, and how many rows have each."""
        counts, total, schemes = Counter[str](), 0, {SCHEMES[0]}
        for row in rows:
            target, total = self.target(row, self.words_of(row)), total + 1
            counts.update({entity.label for entity in target.entities})
            schemes.add(scheme_of(target.tags))
        if not counts:
            problem = (
                "the training rows have no entities" if total else "there are no training rows"
            )
            raise DataError("", column=self.options.label if total else None, problem=problem)
        ordered = {label: counts[label] for label in sorted(counts)}
        scheme = max(schemes, key=SCHEMES.index)
        return {"labels": list(ordered), "counts": ordered, "scheme": scheme}

    def codec(self, schema: Schema, vocabulary: Vocabulary) -> TokenCodec:
        """The other half."""
        return TokenCodec(self, schema, vocabulary)

    def words_of(self, row: Row) -> Words:
        """The words of a row: those that are given, or those of its text.

        Raises:
            DataError: There is neither a text nor a list of words.
        """
        column = self.options.text
        value = cells.cell(row, column)
        if isinstance(value, str):
            listed = cells.as_list(value) or ()
            value = listed if listed and all(isinstance(each, str) for each in listed) else value
        if not isinstance(value, list | tuple):
            try:
                return found(cells.text(row, column))
            except UnicodeEncodeError:
                problem = "holds half a surrogate pair, which is no character"
                raise DataError(row.address, column=column, problem=problem) from None
        if not value:
            raise DataError(row.address, column=column, problem="the list of words is empty")
        for word in value:
            if not isinstance(word, str):
                problem = "is in the list of words, and no text"
                raise DataError(row.address, column=column, value=word, problem=problem)
        return joined(value)

    def target(self, row: Row, words: Words) -> Target:
        """The entities of a row. Raises DataError."""
        column = self.options.label
        value = cells.cell(row, column)
        given = cells.as_list(value) if isinstance(value, str) and value else value or []
        if not isinstance(given, list | tuple):
            problem = "is neither a list of tags nor of spans"
            raise DataError(row.address, column=column, value=value, problem=problem, remedy=_WRITE)
        if not words.given and all(isinstance(each, Mapping) for each in given):
            return self._spans(row, words, given)
        return self._tags(row, words, given)

    def _tags(self, row: Row, words: Words, tags: Sequence[Any]) -> Target:
        column, number = self.options.label, len(words.places)
        for tag in tags:
            if not is_tag(tag):
                raise DataError(
                    row.address,
                    column=column,
                    value=tag,
                    problem="is no tag: O, or B-, I-, E- or S- and a type",
                    remedy=cells.NUMBERS if isinstance(tag, int) else _WRITE,
                )
        if len(tags) != number:
            problem = f'has {len(tags)} tags, and column "{self.options.text}" {number} words'
            remedy = "" if words.given else "of a text nlpkit finds the words: give them as a list"
            raise DataError(row.address, column=column, problem=problem, remedy=remedy)
        return Target(entities(tags), tags)

    def _spans(self, row: Row, words: Words, spans: Sequence[Mapping[str, Any]]) -> Target:
        starts, ends = [[place[at] for place in words.places] for at in (0, 1)]
        marked, cuts = list[Entity](), False
        for span in spans:
            start, end, label = map(span.get, ("start", "end", "label"))
            if not (isinstance(start, int) and isinstance(end, int)):
                raise self._unfit(row, span, "has no whole numbers as start and end", _WRITE)
            if not (isinstance(label, str) and label):
                raise self._unfit(row, span, "has no text as label", _WRITE)
            if not 0 <= start < end <= len(words.text):
                problem = f"is empty, or not inside the {len(words.text)} characters of the text"
                raise self._unfit(row, span, problem)
            first, last = bisect_right(ends, start), bisect_left(starts, end)
            if first == last:
                raise self._unfit(row, span, "holds no word")
            cuts |= starts[first] < start or end < ends[last - 1]
            marked.append(Entity(label, first, last))
        marked.sort(key=lambda each: each.start)
        for before, after in pairwise(marked):
            if after.start < before.end:
                shared = words.text[slice(*words.places[after.start])]
                raise self._unfit(row, shared, "is in two spans; nested ones cannot be learned")
        return Target(marked, cuts=cuts)

    def _unfit(self, row: Row, value: object, problem: str, remedy: str = "") -> DataError:
        column = self.options.label
        return DataError(row.address, column=column, value=value, problem=problem, remedy=remedy)
