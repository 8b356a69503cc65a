"""What is worth knowing of rows that a run can use: it warns, and stops nothing.

The rows are read and tokenized once. What is remembered of each is 12 bytes; only the rows that a
warning names are looked up once more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from nlpkit.checking.ceiling import Ceiling
from nlpkit.checking.copies import Copies
from nlpkit.checking.counts import TokenCounts, lacks_capitals
from nlpkit.contracts import Pieces, Windows
from nlpkit.data.encode import Encoder, overlap, windows_of_length
from nlpkit.errors import DataError, Problem, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from tokenizers import Tokenizer

    from nlpkit.checking.copies import Repeat
    from nlpkit.config.schema import Config
    from nlpkit.contracts import Codec, Example, Part, Row, Task, Use
    from nlpkit.data.encode import Encoded
    from nlpkit.data.rows import BadRows, Rows

_FEW = 5  # training rows of a label
_JOINS = re.compile(r"[;|]")
_JOINED = 2  # labels that hold others; one alone may be a name
_MISSING = {"nan", "none", "null", "n/a", "na", "#n/a", "<na>", "-1"}
_KEY = "tokenizer.max_length"
_CUT = 0.05  # share of the rows from which truncation is worth a warning
_UNKNOWN = 0.01  # share of the tokens
_NAMED = 5  # labels or characters in one message
_INDEX = 8  # bytes that a token store adds to a value, at most


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """How long the texts of all splits are, in tokens.

    Attributes:
        lengths: By part p50, p95, p99 (so many percent are at most so long), and max.
        truncated: The share of the rows that are longer than `tokenizer.max_length`; for a windowed
            task, than so many windows as a row has at most.
        unknown: The share of the tokens that the vocabulary lacks.
        windows: For a windowed task, how many a row has in the mean.
        windowed: And the share of the rows that have more than one.
        ceiling: Of a task that writes, the metrics of a model without fault, whose tokens give back
            no more, and their details.
    """

    lengths: Mapping[str, Mapping[str, int]]
    truncated: float
    unknown: float
    windows: float | None = None
    windowed: float | None = None
    ceiling: tuple[Mapping[str, float], Mapping[str, Any]] = ({}, {})


@dataclass
class _Seen:
    """Rows of one kind: how many, and where the first two stand."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, address: str) -> None:
        self.count += 1
        if len(self.first) < 2:
            self.first.append(address)

    def warning(self, message: str, remedy: str, *, place: str = "") -> Problem:
        """What is odd about them, at the first one, or at `place` where no row was noted."""
        address, *others = self.first or [place]
        also = "".join(f" (also {other})" for other in others)
        return Problem(address=address, message=message + also, remedy=remedy, severity="warning")


class Quality:
    """Reads rows, and says what is odd about them.

    Args:
        config: The resolved config.
        task: Its task.
        codec: The other half of it.
        tokenizer: The run's.
        splits: The rows, the training rows first.

    Attributes:
        bytes: What a token store of them takes, about.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        codec: Codec,
        tokenizer: Tokenizer,
        splits: Mapping[str, Rows],
    ) -> None:
        self._config, self._task, self._tokenizer = config, task, tokenizer
        self._encoder, self._splits = Encoder(task, codec, tokenizer, whole=True), splits
        self._copies = Copies({split: len(rows) for split, rows in splits.items()})
        self._counts = TokenCounts(tokenizer)
        self._odd = [(*odd, _Seen()) for odd in _oddities(codec.labels)]
        self._cut, self._unknown, self._empty = _Seen(), _Seen(), _Seen()
        self._remarks = defaultdict[tuple[str, str], _Seen](_Seen)
        self._codec, self._windowed = codec, self._encoder.in_windows
        self._windows, self._several, self._read = 0, 0, 0  # windows, rows with several, rows
        self._ceiling = Ceiling(codec)
        self.bytes = 0

    def read(self, rows: Rows, bad: BadRows, use: Use) -> None:
        """Takes the rows of the next split; those that the task cannot encode go to `bad`."""
        for each in self._encoder.encoded(rows, use):
            text = tuple(each.texts.get(part, "") for part in self._task.columns)
            if isinstance(each.example, DataError):
                bad.add(each.example, each.row)
                self._copies.add(text, None)
            else:
                self._copies.add(text, each.example)
                self._add(each.row, each, each.example)

    def facts(self) -> TextFacts:
        """How long the texts are."""
        percents = {**{f"p{percent}": percent for percent in (50, 95, 99)}, "max": 100}
        rows = max(1, self._read)
        return TextFacts(
            lengths={
                part: {name: self._counts.percentile(part, each) for name, each in percents.items()}
                for part in [*self._counts.lengths]
            },
            truncated=self._cut.count / rows,
            unknown=self._counts.unknown / max(1, self._counts.tokens),
            windows=self._windows / rows if self._windowed else None,
            windowed=self._several / rows if self._windowed else None,
            ceiling=self._ceiling.found(),
        )

    def problems_of_rows(self) -> Iterator[Problem]:
        """Labels that look wrong; copies, contradictions, and training rows in other splits."""
        place = self._config.origin.address(("data", "train"))
        for _, message, remedy, seen in self._odd:
            yield seen.warning(message, remedy, place=place)
        repeats = self._copies.repeats()
        found = self._found({number for repeat in repeats for number in repeat.rows})
        for repeat in repeats:
            first, second = (found[number] for number in repeat.rows)
            yield self._repeated(repeat, first, second)

    def problems_of_tokens(self, *, trained: bool) -> Iterator[Problem]:
        """What the tokenizer loses: ends of texts, unknown words, whole texts, capitals; and what
        the task has to say of rows and their tokens."""
        facts, longest = self.facts(), self._config.tokenizer.max_length
        if facts.truncated >= _CUT:
            kept = {name: part.max_length or longest for name, part in self._codec.parts.items()}
            fit = {name: lengths["p99"] for name, lengths in facts.lengths.items()}
            most, remedy = f"{longest} tokens", f"99% fit into {_KEY}: {max(fit.values())}"
            if len(kept) > 1:
                most = " or ".join(f"{size} tokens ({name})" for name, size in kept.items())
                fitting = ", ".join(f"{size} ({name})" for name, size in fit.items())
                remedy = f"99% have at most {fitting}: a larger {_KEY} or length of the task"
            if self._windowed:
                windows = (part.long for part in self._codec.parts.values())
                (count, *_) = (each.most for each in windows if isinstance(each, Windows))
                most, remedy = f"{count} windows of {most}", f"a larger {_KEY}"
            yield self._cut.warning(
                f"{self._rows(self._cut)} are longer than {most} and are cut",
                f"{remedy}, if the model takes it",
            )
        if facts.unknown >= _UNKNOWN:
            named = ", ".join(_shown(word) for word in self._counts.commonest(_NAMED))
            yield self._unknown.warning(
                f"{facts.unknown:.1%} of the tokens are unknown to the vocabulary, in "
                f"{self._rows(self._unknown)}; the commonest: {named}",
                "a tokenizer for this language, or tokenizer: bpe, which knows all"
                if not trained
                else "tokenizer: bpe knows all",
            )
        if self._empty.count:
            yield self._empty.warning(
                f"{self._rows(self._empty)} hold nothing that the tokenizer keeps",
                "remove them: all of them look the same to the model",
            )
        for (message, remedy), seen in self._remarks.items():
            yield seen.warning(f"{self._rows(seen)} {message}", remedy)
        if not trained and lacks_capitals(self._tokenizer):
            yield self._config.origin.warning(
                ("tokenizer",),
                "the vocabulary has no capitals, and the tokenizer keeps case: a word with one is "
                "unknown, or falls to pieces",
                "its tokenizer.json needs a normalizer that folds case "
                "(do_lower_case=True where it was saved)",
            )

    def _add(self, row: Row, each: Encoded, example: Example) -> None:
        size = sum(getattr(value, "nbytes", 0) + _INDEX for value in example.values())
        total = kept = 0
        cut = unknown = empty = False
        for name, encoding in each.encodings.items():
            whole = encoding[0] if isinstance(encoding, list) else encoding
            text, part = each.texts[name], self._codec.parts[name]
            special = self._counts.special(text) if part.special else 0
            length, lacking = self._counts.add(name, text, whole, special)
            stored, lost = self._fitted(part, length, special)
            total, kept = total + length, kept + stored
            cut, unknown, empty = cut or lost, unknown or lacking > 0, empty or length == special
        self._read += 1
        self._ceiling.add(example)
        self.bytes += size * kept // total if total else size
        for found, seen in ((cut, self._cut), (unknown, self._unknown), (empty, self._empty)):
            if found:
                seen.add(row.address)
        for remark in self._codec.remarks(row, each.encodings):
            self._remarks[remark].add(row.address)
        wanted = [(labels, seen) for labels, _, _, seen in self._odd if len(seen.first) < 2]
        stratum = self._task.stratum(row) if wanted else ""
        for labels, seen in wanted:
            if stratum in labels:
                seen.add(row.address)

    def _fitted(self, part: Part, length: int, special: int) -> tuple[int, bool]:
        """Tokens that a store holds of a text, about, and whether an end is cut off."""
        longest = part.max_length or self._codec.vocabulary.max_length
        if not isinstance(part.long, Windows):
            return length, length > longest and not isinstance(part.long, Pieces)
        windows = windows_of_length(part.long, length, special=special, max_length=longest)
        kept = min(windows, part.long.most or windows)
        self._windows += kept
        self._several += kept > 1
        return length + (kept - 1) * (special + overlap(part.long, longest)), windows > kept

    def _rows(self, seen: _Seen) -> str:
        return f"{seen.count:,} of {self._read:,} rows"

    def _repeated(self, repeat: Repeat, first: Row, second: Row) -> Problem:
        here, there = second.address, first.address
        total = len(self._splits[repeat.split])
        of = f"such rows: {repeat.count:,} of {total:,} {repeat.split} rows"
        if repeat.kind == "copy":
            message = f"is {there} again, text and target; {of}"
            remedy = "remove them: they count twice"
        elif repeat.kind == "conflict":
            one, other = self._task.stratum(first), self._task.stratum(second)
            named = one and other and one != other
            targets = f': "{shorten(other)}", not "{shorten(one)}"' if named else ""
            message = f"has the text of {there} and another target{targets}; {of}"
            remedy = "correct or remove one of each two"
        else:
            message = f"has the text of {there}, a training row; {of}"
            remedy = f"remove them from one of the two: they flatter the {repeat.split} metrics"
        return Problem(address=here, message=message, remedy=remedy, severity="warning")

    def _found(self, numbers: Set[int]) -> dict[int, Row]:
        """Rows by their number, from one more look at the splits."""
        found: dict[int, Row] = {}
        start = 0
        for rows in self._splits.values():
            places = {number - start for number in numbers if start <= number < start + len(rows)}
            start += len(rows)
            for place, row in enumerate(islice(rows, max(places, default=-1) + 1)):
                if place in places:
                    found[start - len(rows) + place] = row
        return found


def _shown(word: str) -> str:
    return f"{word} (U+{ord(word):04X})" if len(word) == 1 else shorten(word)


def _oddities(counts: Mapping[str, int]) -> Iterator[tuple[Set[str], str, str]]:
    """Labels that look wrong in the training rows, what is said of them, and what helps."""
    if few := {label: count for label, count in counts.items() if count < _FEW}:
        message = f"{len(few)} of {len(counts)} labels have fewer than {_FEW} training rows"
        yield few.keys(), f"{message}: {_rarest(few)}", "give them more rows, or merge them"
    groups = defaultdict[str, dict[str, int]](dict)
    for label, count in counts.items():
        groups[_folded(label)][_visible(label)] = count
    if alike := [group for group in groups.values() if len(group) > 1]:
        ways = "; ".join(_rarest(group) for group in alike[:_NAMED]) + "; …" * (len(alike) > _NAMED)
        rarest = {min(group, key=group.__getitem__) for group in alike}
        message = "labels that differ by capitals, blanks or the form of Unicode alone"
        watched = {label for label in counts if _visible(label) in rarest}
        yield watched, f"{message}: {ways}", "write each in one way, if both mean the same"
    joined = {
        label: count
        for label, count in counts.items()
        if len(parts := [part.strip() for part in _JOINS.split(label)]) > 1
        and not counts.keys().isdisjoint(parts)
    }
    if len(joined) >= _JOINED:
        message = f"labels that hold others, joined by ; or |: {_rarest(joined)}"
        remedy = "if they are several labels, write a list or separate them by commas"
        yield joined.keys(), message, f"{remedy} (task.target: multilabel)"
    if missing := {label: n for label, n in counts.items() if label.casefold() in _MISSING}:
        message = f"labels that often stand for a missing one: {_rarest(missing)}"
        yield missing.keys(), message, "if they do, leave the cells empty: they are bad rows then"


def _rarest(counts: Mapping[str, int]) -> str:
    """Some labels and their rows, the rarest first."""
    rarest = sorted(counts.items(), key=lambda each: each[1])
    labels = ", ".join(f"{label} ({count})" for label, count in rarest[:_NAMED])
    return labels + ", …" * (len(rarest) > _NAMED)


def _folded(label: str) -> str:
    """What labels that a reader takes for one have in common."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(sign for sign in folded if sign.isprintable() and not sign.isspace())


def _visible(label: str) -> str:
    """A label in quotes, with what cannot be seen in it, or seen apart, as its number."""
    apart = (
        sign if sign.isprintable() and not unicodedata.combining(sign) else f"\\u{ord(sign):04x}"
        for sign in label
    )
    return f'"{"".join(apart)}"'
