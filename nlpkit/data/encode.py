"""From rows to examples: what preparing, checking, predicting and the contract checks share."""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from nlpkit.contracts import Pieces, Windows
from nlpkit.data.longtext import LONG, LongText, tokens_of
from nlpkit.data.rows import characters
from nlpkit.errors import ConfigError, DataError, NlpkitError, PluginError, Problem
from nlpkit.plugin.imports import blaming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from tokenizers import Encoding

    from nlpkit.cli.render import Bar
    from nlpkit.contracts import Codec, Example, Part, Row, Task, TextInput, Use
    from nlpkit.data.rows import BadRows
    from nlpkit.data.store import StoreWriter

    Texts = Mapping[str, TextInput]
    Tokens = Encoding | LongText

_CHUNK = 500  # rows; enough for the tokenizer's threads, little memory
_CHARACTERS = 1 << 19  # of a chunk; a token takes a hundred bytes of memory, a truncated one too
_AHEAD = 2  # chunks that are tokenized, without Python's lock, while one is used
_SHORTEST = 8  # tokens of a window: below, special tokens and overlap leave next to nothing


class Encoded(NamedTuple):
    """What became of a row.

    Attributes:
        row: The row.
        texts: Its texts by part; {} where it has none.
        encodings: Their tokens by part, as `Codec.encode` takes them.
        example: What the codec made of them, or why it could not.
        cut: Whether an end of a text was left out.
    """

    row: Row
    texts: Texts
    encodings: Mapping[str, Any]
    example: Example | DataError
    cut: bool = False


class Encoder:
    """Tokenizes rows and makes examples of them.

    Args:
        task: Gives the texts of a row.
        codec: Gives its example.
        tokenizer: How it cuts and pads itself is no matter.
        whole: Whether no text is cut and no encoding lacks anything, whatever its part says.

    Raises:
        ConfigError: A part's windows are too short to overlap.
    """

    def __init__(
        self, task: Task, codec: Codec, tokenizer: Tokenizer, *, whole: bool = False
    ) -> None:
        self.task, self.codec = task, codec
        self._tokenizer, self._whole = tokenizer, whole
        self._predicted = [self._part(*each, "predict") for each in codec.parts.items()]

    def _parts(self, use: Use) -> Sequence[tuple[str, Part, Tokenizer]]:
        """The parts by name, and what tokenizes each for a use."""
        return self._predicted if use == "predict" else self._learned

    @cached_property
    def _learned(self) -> Sequence[tuple[str, Part, Tokenizer]]:
        if not in_pieces(self.codec):
            return self._predicted
        return [self._part(*each, "train") for each in self.codec.parts.items()]

    def _part(self, name: str, part: Part, use: Use) -> tuple[str, Part, Tokenizer]:
        pieces, vocabulary = isinstance(part.long, Pieces), self.codec.vocabulary
        uncut = self._whole or (pieces and use != "predict")
        own = fitted(self._tokenizer, None if uncut else part, vocabulary.max_length)
        if isinstance(part.long, Pieces):
            ids = [] if uncut else [vocabulary.special.get(role, -1) for role in part.long.roles]
            own = _as_text(own, {token for id in ids if id >= 0 and (token := own.id_to_token(id))})
        needs = "words" if self._whole or (pieces and not uncut) else part.needs
        return name, replace(part, needs=needs), own

    @property
    def in_windows(self) -> bool:
        """Whether texts that are too long come in windows."""
        return any(isinstance(part.long, Windows) for part in self.codec.parts.values())

    def encoded(self, rows: Iterable[Row], use: Use) -> Iterator[Encoded]:
        """The rows in their order, in constant memory."""
        return chain.from_iterable(self._in_chunks(rows, use))

    def write(
        self, rows: Iterable[Row], use: Use, writer: StoreWriter, bad: BadRows, bar: Bar
    ) -> int:
        """Appends the samples of rows to a store; rows that cannot be used go to `bad`.

        Returns:
            How many of the written rows were cut.
        """
        lost = 0

        def samples() -> Iterator[tuple[Example, str]]:
            nonlocal lost
            for chunk in self._in_chunks(rows, use):
                for row, _, _, example, cut in chunk:
                    if isinstance(example, DataError):
                        bad.add(example, row)
                    else:
                        for sample in self.codec.samples(example, use):
                            yield sample, row.address
                        lost += cut
                bar.advance(len(chunk))

        packs = self.codec.pack and use == "train"
        for example, address in packed(self.codec, samples()) if packs else samples():
            writer.append(example, address, self.codec.lengths(example))
        return lost

    def _in_chunks(self, rows: Iterable[Row], use: Use) -> Iterator[list[Encoded]]:
        for chunk, tokens in self._ahead(self._chunks(rows, use), use):
            rest = iter(tokens)
            yield [
                Encoded(row, {}, {}, texts)
                if isinstance(texts, DataError)
                else self._encoded(row, texts, next(rest), use)
                for row, texts in chunk
            ]

    def _encoded(self, row: Row, texts: Texts, tokens: Sequence[Tokens | str], use: Use) -> Encoded:
        encodings: dict[str, Any] = {}
        lost = False
        try:
            parts = (each for each in self._parts(use) if each[0] in texts)
            for (name, part, _), encoding in zip(parts, tokens, strict=True):
                if isinstance(encoding, str):
                    problem = f"is no text for the tokenizer, which fails: {encoding}"
                    raise DataError(row.address, problem=problem)
                rest = encoding.overflowing
                if isinstance(part.long, Windows):
                    most = part.long.most or 1 + len(rest)
                    encodings[name] = [encoding, *rest[: most - 1]]
                    lost |= len(rest) >= most
                else:
                    encodings[name] = encoding
                    lost |= bool(rest)
            return Encoded(row, texts, encodings, self.codec.encode(row, encodings, use), lost)
        except DataError as error:  # its traceback would keep all that is in sight here
            return Encoded(row, texts, encodings, error.with_traceback(None))
        except Exception:
            with self._blaming(row):
                raise

    def _blaming(self, row: Row) -> AbstractContextManager[None]:
        """Names the task and the row, whatever a stranger's task raises of it."""
        return blaming(f"{row.address}: task {type(self.task).__name__}", NlpkitError)

    def _chunks(
        self, rows: Iterable[Row], use: Use
    ) -> Iterator[list[tuple[Row, Texts | DataError]]]:
        chunk: list[tuple[Row, Texts | DataError]] = []
        size = 0
        for row in rows:
            texts: Texts | DataError
            try:
                texts = self.task.texts(row, targets=use != "predict")
                size += sum(map(characters, texts.values()))
            except DataError as error:
                texts = error.with_traceback(None)
            except Exception:
                with self._blaming(row):
                    raise
            chunk.append((row, texts))
            if len(chunk) == _CHUNK or size > _CHARACTERS:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _ahead(self, chunks: Iterator[Any], use: Use) -> Iterator[tuple[Any, Iterable[Any]]]:
        """Chunks and their tokens, while threads make those of the next ones."""
        first = list(islice(chunks, 2))
        if len(first) < 2:  # nothing to do meanwhile
            yield from ((chunk, self._tokenized(chunk, use)) for chunk in first)
            return
        waiting: deque[tuple[Any, Future[Any]]] = deque()
        with ThreadPoolExecutor(max_workers=_AHEAD) as threads:
            for chunk in chain(first, chunks):
                waiting.append((chunk, threads.submit(self._tokenized, chunk, use)))
                if len(waiting) > _AHEAD:
                    done, tokens = waiting.popleft()
                    yield done, tokens.result()
            for done, tokens in waiting:
                yield done, tokens.result()

    def _tokenized(
        self, chunk: Sequence[tuple[Row, Texts | DataError]], use: Use
    ) -> Iterable[tuple[Tokens | str, ...]]:
        """For each row that has texts the tokens by part, or how the tokenizer fails."""
        texts = [texts for _, texts in chunk if not isinstance(texts, DataError)]
        return zip(
            *(
                _tokens(tokenizer, part, [each[name] for each in texts])
                for name, part, tokenizer in self._parts(use)
                if texts and name in texts[0]
            ),
            strict=True,
        )


def packed(codec: Codec, samples: Iterable[tuple[Example, str]]) -> Iterator[tuple[Example, str]]:
    """Consecutive samples and their addresses, joined while they fit into the longest input.

    The order stays, and memory holds those of one row: greedy, so no sample is divided.
    """
    group: list[Example] = []
    addresses: list[str] = []
    length = 0
    for sample, address in samples:
        tokens = sum(map(sum, codec.lengths(sample)))
        if group and length + tokens > codec.vocabulary.max_length:
            yield codec.joined(group), _span(addresses)
            group, addresses, length = [], [], 0
        group.append(sample)
        addresses.append(address)
        length += tokens
    if group:
        yield codec.joined(group), _span(addresses)


def _span(addresses: Sequence[str]) -> str:
    """From the first to the last: `a.txt:12-40`, or `a.txt:12` where they are one."""
    first, last = addresses[0], addresses[-1]
    if first == last:
        return first
    file, _, line = last.rpartition(":")
    return f"{first}-{line}" if file and first.startswith(f"{file}:") else f"{first} to {last}"


def in_pieces(codec: Codec) -> bool:
    """Whether a row may become several samples, of which none is predicted in an evaluation."""
    return any(isinstance(part.long, Pieces) for part in codec.parts.values())


def _as_text(tokenizer: Tokenizer, marks: Set[str]) -> Tokenizer:
    """A tokenizer for which what looks like a special token is text, but for those of `marks`.

    A mark takes the blank before it where tokens begin with theirs: so does what stands there.
    """
    stored = json.loads(tokenizer.to_str())
    own_blanks = (stored["pre_tokenizer"] or {}).get("type") == "ByteLevel"
    for token in stored["added_tokens"]:
        if token["content"] in marks:
            token |= {"special": False, "lstrip": token["lstrip"] or own_blanks}
    own = Tokenizer.from_str(json.dumps(stored))
    own.encode_special_tokens = True
    others = marks - {token["content"] for token in stored["added_tokens"]}
    own.add_tokens([AddedToken(each, lstrip=own_blanks, normalized=False) for each in others])
    return own


def _tokens(tokenizer: Tokenizer, part: Part, texts: Sequence[TextInput]) -> list[Tokens | str]:
    """The tokens of texts; of one that it fails on, for a regex of it panics say, why."""
    found: list[Tokens | str] = []
    uncut = isinstance(part.long, Pieces) and tokenizer.truncation is None
    for kind, group in groupby(
        texts, lambda text: LongText if uncut and len(text) > LONG else type(text)
    ):
        # of pairs, the fast one forgets which text a token is of, where no template says it
        fast = part.needs == "ids" and kind is not tuple
        encode = tokenizer.encode_batch_fast if fast else tokenizer.encode_batch
        alike = list(group)
        options = {"is_pretokenized": kind is list, "add_special_tokens": part.special}
        try:
            with blaming(""):
                if kind is LongText:
                    found += [tokens_of(tokenizer, str(text)) for text in alike]
                else:
                    found += encode(alike, **options)
        except PluginError as error:
            if len(alike) == 1:
                return [*found, str(error)]
            found += [each for text in alike for each in _tokens(tokenizer, part, [text])]
    return found


def fitted(tokenizer: Tokenizer, part: Part | None, longest: int) -> Tokenizer:
    """A tokenizer of one's own that cuts texts as a part wants it, and does not pad.

    Args:
        tokenizer: Stays as it is.
        part: None: nothing is cut.
        longest: The model's longest input, in tokens.

    Raises:
        ConfigError: Special tokens leave windows of that length less room than the overlap takes.
    """
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.no_truncation()
    if part is None:
        return own
    length = part.max_length or longest
    if not isinstance(part.long, Windows):
        side = "right" if part.long.keep == "start" else "left"
        own.enable_truncation(length, direction=side)
        return own
    special = own.num_special_tokens_to_add(False) if part.special else 0
    shared = overlap(part.long, length)
    if length < _SHORTEST or shared >= length - special:
        message = f"windows of {length} tokens cannot overlap"
        message += f": {special} of them are special" if length >= _SHORTEST else ""
        least = _SHORTEST if length < _SHORTEST else 2 * special + _SHORTEST
        remedy = f"set it to {least} or more"
        raise ConfigError([Problem(key="tokenizer.max_length", message=message, remedy=remedy)])
    own.enable_truncation(length, stride=shared)
    return own


def overlap(windows: Windows, length: int) -> int:
    """Tokens that a window of this length shares with the one before."""
    return length // 4 if windows.overlap is None else windows.overlap


def windows_of_length(windows: Windows, length: int, *, special: int, max_length: int) -> int:
    """How many windows a text makes that has `length` tokens, `special` ones of them special."""
    fresh = max(1, max_length - special - overlap(windows, max_length))  # of a further window
    return 1 + max(0, -(-(length - max_length) // fresh))
