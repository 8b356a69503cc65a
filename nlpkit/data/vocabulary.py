"""What is to be known of a tokenizer: how many ids it has, and which tokens have a role."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nlpkit.contracts import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

    Roles = Mapping[str, str | int]

USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|endoftext|>", "[CLS]"),
    "eos": ("</s>", "<eos>", "[EOS]", "<|end_of_text|>", "<|endoftext|>", "[SEP]"),
    "sep": ("[SEP]", "</s>"),
    "cls": ("[CLS]", "<s>"),
}
"""What special tokens are called, by role: in a trained tokenizer [CLS] begins a text."""


def vocabulary_of(
    tokenizer: Tokenizer, max_length: int, roles: Roles = MappingProxyType({})
) -> Vocabulary:
    """What is to be known of a tokenizer.

    Args:
        tokenizer: Goes on into the vocabulary.
        max_length: The model's longest input, in tokens.
        roles: What its files say, which tokenizer.json does not: a token, or an id, by role. Others
            are those with a usual name.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    special = dict[str, int]()
    for role, names in USUAL.items():
        said = (roles[role], *names) if role in roles else names
        ids = (each if isinstance(each, int) else tokenizer.token_to_id(each) for each in said)
        if usable := [id for id in ids if id is not None and 0 <= id < size]:
            special[role] = usable[0]
    return Vocabulary(size=size, max_length=max_length, special=special, tokenizer=tokenizer)


def unusual(tokenizer: Tokenizer | None, roles: Roles) -> Roles:
    """What its files say of special tokens that their names do not, by id; None: it is trained."""
    if tokenizer is None:
        return {}
    usual, said = (vocabulary_of(tokenizer, 1, each).special for each in ({}, roles))
    return {role: id for role, id in said.items() if usual.get(role) != id}
