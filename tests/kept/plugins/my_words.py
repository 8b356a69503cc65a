"""The tokenizer `words`: one token a word."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import nlpkit


def build(options, texts):
    words = sorted({word for text in texts for word in text.split()})
    ids = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer


@nlpkit.hookimpl
def nlpkit_tokenizers():
    yield nlpkit.TokenizerRecord(name="words", target="my_words:build")
