"""Dropout and attention for models: on a CPU those of `nlpkit.cpu`, elsewhere torch's own."""

from nlpkit.cpu.attention import attention
from nlpkit.cpu.dropout import Dropout, use_fast_dropout

__all__ = ["Dropout", "attention", "use_fast_dropout"]
