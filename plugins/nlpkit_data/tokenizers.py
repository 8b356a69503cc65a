"""Tokenizers that are trained on the training texts.

What is trained is a function of the texts and the options: the same in every process.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nlpkit.contracts import TextInput
    from nlpkit_data.config import CharConfig, SubwordConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Have the ids 0 to 4 in every trained tokenizer."""

_INVISIBLE = "[\u00ad\u200b\u2060\ufeff]"
"""Soft hyphen, zero-width space, word joiner, byte order mark. Joiners shape emoji, and stay."""

_INNER = "##"  # marks a piece that does not begin a word
_LONGEST = 100  # characters of a word: training takes time quadratic in it
_UNBROKEN = re.compile(r"\w{100}|[^\w\s]{100}")


def wordpiece(options: SubwordConfig, texts: Iterable[TextInput]) -> Tokenizer:
    """WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019): words, and pieces marked with ##.

    The library's trainer numbers the pieces of the alphabet in the order of a hash map, and breaks
    ties by these numbers, so each process would find another vocabulary. Here the alphabet comes
    sorted, as tokens given beforehand, and the vocabulary goes into a fresh model. Words of more
    than 100 characters, which the model takes for [UNK], give their characters only.
    """
    normalizer = _normalizer(
        options.normalize,
        normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True,
            strip_accents=False,
            lowercase=options.lowercase,
        ),
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in _strings(texts)
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    alphabet = sorted({word[0] for word in words})
    alphabet += sorted({_INNER + character for word in words for character in word[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=options.vocab_size,
        special_tokens=[*SPECIAL, *alphabet],
        continuing_subword_prefix=_INNER,
        show_progress=False,
    )
    trained = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    trained.train_from_iterator(
        chain.from_iterable(
            repeat(word, words[word]) for word in sorted(words) if len(word) <= _LONGEST
        ),
        trainer,
    )
    model = models.WordPiece(
        trained.get_vocab(), unk_token=SPECIAL[1], continuing_subword_prefix=_INNER
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece(_INNER)
    return _with_special(tokenizer)


def bpe(options: SubwordConfig, texts: Iterable[TextInput]) -> Tokenizer:
    """Byte pair encoding (Sennrich et al. 2016) over bytes (Radford et al. 2019): no unknowns.

    It is trained on unbroken runs of letters or of signs in pieces of 100 characters. Any space is
    a plain one, and what cannot be seen is left out. Where case is kept, tokens give texts back,
    without the blank that was put in front.
    """
    tokenizer = Tokenizer(models.BPE())
    lowercase = [normalizers.Lowercase()] if options.lowercase else []
    spaces = [
        normalizers.Replace(Regex(_INVISIBLE), ""),
        normalizers.Replace(Regex(r"\p{Zs}"), " "),
    ]
    tokenizer.normalizer = _normalizer(options.normalize, *lowercase, *spaces)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    if not options.lowercase:
        tokenizer.decoder = decoders.Sequence([tokenizer.decoder, decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = (_UNBROKEN.sub(r"\g<0> ", text) for text in _strings(texts))
    tokenizer.train_from_iterator(pieces, trainer)
    return _with_special(tokenizer)


def char(options: CharConfig, texts: Iterable[TextInput]) -> Tokenizer:
    """One token a visible character; a run of white space is one space, and none at the ends.

    Or else white space is kept, and each of its characters is a token too.
    """
    steps: list[normalizers.Normalizer] = [normalizers.Replace(Regex(_INVISIBLE), "")]
    if options.whitespace == "fold":
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    lowercase = [normalizers.Lowercase()] if options.lowercase else []
    normalizer = _normalizer(options.normalize, *lowercase, *steps)
    characters: set[str] = set()
    for text in _strings(texts):
        characters.update(normalizer.normalize_str(text))
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *sorted(characters)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _with_special(tokenizer)


def _strings(texts: Iterable[TextInput]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, str):
            yield text
        else:
            yield from text


def _normalizer(normalize: str, *steps: normalizers.Normalizer) -> normalizers.Normalizer:
    nfkc = [normalizers.NFKC()] if normalize == "nfkc" else []
    return normalizers.Sequence([*nfkc, *steps])


def _with_special(tokenizer: Tokenizer) -> Tokenizer:
    """Registers the special tokens; texts and pairs get [CLS] and [SEP], as BERT has them."""
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer
