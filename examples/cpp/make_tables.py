"""Writes unicode_tables.hpp: python make_tables.py > unicode_tables.hpp.

The library behind a tokenizer.json, `tokenizers`, takes its character properties from several
versions of Unicode at once, none of them Python's. So each table is what the library itself does
with each code point.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tokenizers import normalizers, pre_tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

APART = "ก"  # a letter that nothing here changes, between the code points that are asked about
CODES = (*range(0xD800), *range(0xE000, 0x110000))  # without the surrogates
EVERY = [chr(code) for code in CODES if code != ord(APART)]
HANGUL = range(0xAC00, 0xD7A4)  # decomposes by arithmetic
LOWEST, HIGHEST = "\u0334", "\u0345"  # of the combining classes above 0: the first, the last

HEAD = """\
// What the tokenizers library does with each code point. Written by make_tables.py.
#pragma once

namespace wordpiece::unicode {

struct Range {
  char32_t first, last;
};

struct Rank {
  char32_t first, last;
  int rank;
};

struct Mapping {
  char32_t from, to[4];
};
"""


def each(change: Callable[[str], str], characters: list[str] = EVERY) -> dict[str, str]:
    """What a function makes of each character, asked in texts of many."""
    found: list[str] = []
    for start in range(0, len(characters), 4096):
        found += change(APART.join(characters[start : start + 4096])).split(APART)
    return dict(zip(characters, found, strict=True))


def bert(**on: bool) -> Callable[[str], str]:
    """BERT's normalizer with one of its steps."""
    steps = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    off = dict.fromkeys(steps, False)
    return normalizers.BertNormalizer(**{**off, **on}).normalize_str


def parts(character: str) -> int:
    """Into how many words it cuts a word: 1, 2 (white space) or 3 (punctuation)."""
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return len(split(f"{APART}{character}{APART}"))


def ranks(decomposed: Callable[[str], str]) -> dict[str, int]:
    """The rank of the canonical combining class of each character that has one above 0.

    A decomposition sorts such characters by class and keeps the order within one, which shows it.
    """
    whole = [one for one, changed in each(decomposed).items() if changed == one]
    after = each(lambda text: decomposed(text.replace(APART, LOWEST + APART) + LOWEST), whole)
    before = each(lambda text: decomposed(HIGHEST + text.replace(APART, APART + HIGHEST)), whole)
    moving = [one for one in whole if after[one][0] == LOWEST or before[one][-1] == HIGHEST]
    ordered = decomposed("".join(moving))
    found, rank = {ordered[0]: 1}, 1
    for left, right in pairwise(ordered):
        rank += decomposed(right + left) == left + right
        found[right] = rank
    return found


def ranges(values: dict[str, int]) -> Iterator[tuple[int, int, int]]:
    """Runs of neighbours with one value: first, last, value."""
    run: tuple[int, int, int] | None = None
    for code, value in sorted((ord(character), value) for character, value in values.items()):
        if run and (code - 1, value) == run[1:]:
            run = (run[0], code, value)
        else:
            if run:
                yield run
            run = (code, code, value)
    if run:
        yield run


def table(comment: str, kind: str, name: str, entries: Iterable[str]) -> str:
    """A C++ array, filled to 100 columns."""
    lines = [""]
    for entry in entries:
        if len(lines[-1]) + len(entry) > 96:
            lines.append("")
        lines[-1] += f" {entry}," if lines[-1] else f"{entry},"
    body = "\n".join(f"  {line}" for line in lines)
    return f"\n// {comment}\ninline constexpr {kind} {name}[] = {{\n{body}\n}};\n"


def plain(comment: str, name: str, characters: Iterable[str]) -> str:
    """A table of ranges."""
    runs = ranges(dict.fromkeys(characters, 0))
    return table(comment, "Range", name, (f"{{{first:#x}, {last:#x}}}" for first, last, _ in runs))


def mapping(comment: str, name: str, changes: dict[str, str]) -> str:
    """A table of what characters become."""
    entries = (
        f"{{{ord(one):#x}, {{{', '.join(f'{ord(to):#x}' for to in changed)}}}}}"
        for one, changed in changes.items()
        if changed != one and ord(one) not in HANGUL
    )
    return table(comment, "Mapping", name, entries)


def main() -> None:
    """Asks, and prints the header."""
    decomposed = normalizers.NFD().normalize_str
    cleaned, bare = each(bert(clean_text=True)), each(bert(strip_accents=True))
    spaced = each(bert(handle_chinese_chars=True))
    words = {one: parts(one) for one in EVERY}
    print(HEAD, end="")
    removed = [one for one in EVERY if not cleaned[one]]
    print(plain("Removed as controls.", "REMOVED", removed), end="")
    spaces = [one for one in EVERY if words[one] == 2]
    print(plain("White space.", "SPACES", spaces), end="")
    chinese = [one for one in EVERY if spaced[one] == f" {one} "]
    print(plain("Ideographs, each a word.", "IDEOGRAPHS", chinese), end="")
    signs = [one for one in EVERY if words[one] == 3]
    print(plain("Punctuation, each a word.", "PUNCTUATION", signs), end="")
    accents = [one for one in EVERY if not bare[one]]
    print(plain("Accents: nonspacing marks.", "ACCENTS", accents), end="")
    classes = [f"{{{low:#x}, {high:#x}, {rank}}}" for low, high, rank in ranges(ranks(decomposed))]
    print(table("Combining classes above 0, ranked.", "Rank", "RANKS", classes), end="")
    whole = mapping("Canonical decompositions, but Hangul's.", "DECOMPOSED", each(decomposed))
    print(whole, end="")
    print(mapping("Lower case.", "LOWER", each(normalizers.Lowercase().normalize_str)), end="")
    print("\n}  // namespace wordpiece::unicode")


if __name__ == "__main__":
    main()
