"""The task `echo_length`: the target of a text is the number of its words."""

from __future__ import annotations

import numpy as np

from nlpkit.contracts import Batch, Codec, HeadSpec, Prediction, Task, pad
from nlpkit.errors import DataError
from nlpkit.metrics import RegressionMoments


class EchoTask(Task):
    def __init__(self, options):
        self.columns = {"text": (options.text,)}

    def texts(self, row, *, targets):
        (column,) = self.columns["text"]
        if not row.values.get(column):
            raise DataError(row.address, column=column, problem="has no text")
        return {"text": row.values[column]}

    def fit(self, rows):
        return {"longest": max(self.words(row) for row in rows)}

    def codec(self, schema, vocabulary):
        return EchoCodec(self, schema, vocabulary)

    def words(self, row):
        return len(self.texts(row, targets=True)["text"].split())


class EchoCodec(Codec):
    head = HeadSpec(size=1)

    def __init__(self, task, schema, vocabulary):
        super().__init__(schema, vocabulary)
        self.task = task

    def encode(self, row, encodings, use):
        example = {"input_ids": np.array(encodings["text"].ids, np.int32)}
        if use != "predict":
            example["words"] = np.float64(self.task.words(row) / self.schema["longest"])
        return example

    def collate(self, examples, seeds):
        ids = [example["input_ids"].astype(np.int64) for example in examples]
        known = "words" in examples[0]
        return Batch(
            inputs={"input_ids": pad(ids), "attention_mask": pad([np.ones_like(e) for e in ids])},
            targets={"words": np.array([e["words"] for e in examples])} if known else {},
            count=float(len(examples)),
        )

    def metrics(self):
        return [RegressionMoments(target="words")]

    def decode(self, outputs, batch):
        shares = outputs["logits"][:, 0].tolist()
        return [Prediction(words=round(share * self.schema["longest"])) for share in shares]
