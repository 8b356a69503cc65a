"""What becomes of one prompt: one text that grows, or a search among several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nlpkit.data.plan import mix
from nlpkit.engine.choose import best, drawn
from nlpkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from nlpkit.engine.settings import Settings

_NUMBER = 0
"""Of the sample: one is drawn of each prompt."""


@dataclass(frozen=True)
class Written:
    """A text that was generated.

    Attributes:
        ids: Its tokens without the prompt and the end; those of a stop word are among them.
        text: What they say behind the prompt and before a stop word; "" where nobody can read them.
        score: The mean log-probability of a token, the end included, under the model itself.
        complete: Whether it came to an end or a stop word, and not only to `max_tokens`.
    """

    ids: list[int]
    text: str
    score: float
    complete: bool


class Hypothesis(NamedTuple):
    """Tokens that may follow a prompt, an end included, and their summed log-probability."""

    ids: list[int]
    total: float = 0.0
    complete: bool = False


class Rules:
    """What holds for every text of a batch.

    Args:
        settings: How they are generated.
        end: The ids that end a text.
        vocabulary: Ids from here on are never chosen, though the model may know some; None: all.
        text: What ids say, which stop words need.

    Raises:
        InputError: There are stop words, and no `text`.
    """

    def __init__(
        self,
        settings: Settings,
        end: Collection[int],
        vocabulary: int | None,
        text: Callable[[list[int]], str] | None,
    ) -> None:
        if settings.stop and not text:
            raise InputError("stop words need a tokenizer that gives texts back; remove stop")
        self.settings, self.end, self.vocabulary = settings, frozenset(end), vocabulary
        self._text = text or (lambda ids: "")
        # Each token has a byte of the word at least; one more, for the first may lose its blank.
        self._tail = max((len(word.encode()) + 1 for word in settings.stop), default=0)

    def complete(self, given: list[int], ids: list[int]) -> bool:
        """Whether the last token ends a text, or a stop word.

        Args:
            given: The last token of the prompt, behind which a text keeps the blank in front.
            ids: The tokens of the text.
        """
        if ids[-1] in self.end or not self.settings.stop:
            return ids[-1] in self.end
        last = self._text([*given, *ids][-self._tail :])
        return self._stops(last) and self._stops(self._said(given, ids))

    def written(self, given: list[int], hypothesis: Hypothesis) -> Written:
        """A text that grows no more."""
        ids, total, complete = hypothesis
        own = ids[:-1] if ids[-1] in self.end else ids
        text = before(self._said(given, own), self.settings.stop)
        return Written(own, text, total / len(ids), complete)

    def sure(self, given: list[int], ids: list[int]) -> str:
        """What can be shown of a text that grows."""
        return settled(self._said(given, ids), self.settings.stop)

    def _said(self, given: list[int], ids: list[int]) -> str:
        """What ids say behind others: a first blank is theirs."""
        return self._text([*given, *ids]).removeprefix(self._text(given))

    def _stops(self, text: str) -> bool:
        return any(word in text for word in self.settings.stop)


class Line:
    """One text that grows: greedy, or drawn."""

    def __init__(self, prompt: np.ndarray, rules: Rules) -> None:
        self._rules, self._grown = rules, Hypothesis([])
        self._given = prompt[-1:].tolist()
        self._seed = mix(rules.settings.seed, *prompt.tolist(), _NUMBER)

    def said(self) -> str:
        """What is sure of the text."""
        return self._rules.sure(self._given, self._grown.ids)

    def take(self, logits: np.ndarray, sums: Sequence[float]) -> list[tuple[int, int]]:
        """Goes on by the logits of its row, [1, width], and their `log_sums`.

        Returns:
            For each row of the next step: the row that it follows, and its token. [] at the end.
        """
        (row,), rules, settings = logits, self._rules, self._rules.settings
        ids, total, _ = self._grown
        known = row[: rules.vocabulary]
        if settings.drawing:
            chosen = drawn(known, settings, self._seed, len(ids))
        else:
            chosen = int(known.argmax())
        ids = [*ids, chosen]
        self._grown = Hypothesis(
            ids, total - sums[0] + float(row[chosen]), rules.complete(self._given, ids)
        )
        over = self._grown.complete or len(ids) == settings.max_tokens
        return [] if over else [(0, chosen)]

    def close(self) -> Written:
        """The text, ended here."""
        return self._rules.written(self._given, self._grown)


class Beam:
    """The search for the likeliest text, by the length penalty of Wu et al. 2016 (equation 14).

    A finished text counts where it is among the first `beams` candidates. It ends when no open text
    can still win: a text's sum only falls, and the largest divisor is that of `max_tokens`.
    """

    def __init__(self, prompt: np.ndarray, rules: Rules) -> None:
        self._rules, self._open = rules, [Hypothesis([])]
        self._given = prompt[-1:].tolist()
        self._found, self._worth = Hypothesis([]), -math.inf
        # One that ends leaves its place to another, so that `beams` go on.
        self._candidates = rules.settings.beams * (1 + max(1, len(rules.end)))

    def take(self, logits: np.ndarray, sums: Sequence[float]) -> list[tuple[int, int]]:
        """As that of `Line`, with the logits of each open text, [open, width]."""
        settings = self._rules.settings
        going: list[tuple[int, int]] = []
        opened: list[Hypothesis] = []
        for rank, (fallen, place, chosen) in enumerate(self._ordered(logits, sums)):
            ids = [*self._open[place].ids, chosen]
            grown = Hypothesis(ids, -fallen, self._rules.complete(self._given, ids))
            if grown.complete or len(ids) == settings.max_tokens:
                if rank < settings.beams:
                    self._finish(grown)
            elif len(opened) < settings.beams:
                opened.append(grown)
                going.append((place, chosen))
        self._open = opened
        can_win = opened and self._penalized(opened[0].total, settings.max_tokens) > self._worth
        return going if can_win else []

    def said(self) -> str:
        """Nothing is sure before the end."""
        return ""

    def close(self) -> Written:
        """The best text; those that are open end here."""
        for each in self._open:
            self._finish(each)
        return self._rules.written(self._given, self._found)

    def _ordered(self, logits: np.ndarray, sums: Sequence[float]) -> list[tuple[float, int, int]]:
        """The best candidates: minus their sum, the open text that they continue, their token."""
        found = []
        for row, total, (place, each) in zip(logits, sums, enumerate(self._open), strict=True):
            fallen = total - each.total
            ids = best(row[: self._rules.vocabulary], self._candidates)
            found += [(fallen - float(row[id]), place, int(id)) for id in ids if row[id] > -np.inf]
        return sorted(found)[: self._candidates]

    def _finish(self, grown: Hypothesis) -> None:
        worth = self._penalized(grown.total, len(grown.ids))
        if worth > self._worth:
            self._found, self._worth = grown, worth

    def _penalized(self, total: float, tokens: int) -> float:
        return total / float(((5 + tokens) / 6) ** self._rules.settings.length_penalty)


def before(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of these words."""
    found = [at for word in stop if (at := text.find(word)) >= 0]
    return text[: min(found, default=len(text))]


def settled(text: str, stop: Sequence[str]) -> str:
    """Of a text that goes on, what can be shown: no half character, no beginning of a stop word."""
    text = before(text, stop).rstrip("\ufffd")
    places = range(max(0, len(text) + 1 - max(map(len, stop), default=0)), len(text))
    ends = (at for at in places if any(word.startswith(text[at:]) for word in stop))
    return text[: next(ends, len(text))]


def grown(told: str, text: str) -> str:
    """What a text has beside what was told of it; "" where it does not begin with that."""
    return text[len(told) :] if text.startswith(told) else ""
