"""The task `echo_length`: the target of a text is the number of its words."""

from __future__ import annotations

import numpy as np

from nlpkit.contracts import Batch, HeadSpec, Prediction, pad
from nlpkit.errors import DataError
from nlpkit.metrics import RegressionMoments


class EchoTask:
    def __init__(self, options):
        self.text_columns = [options.text]

    def texts(self, row):
        text = row.values.get(self.text_columns[0])
        if not text:
            raise DataError(row.address, column=self.text_columns[0], problem="has no text")
        return text

    def stratum(self, row):
        return ""

    def fit_schema(self, rows):
        return {"longest": max(len(self.texts(row).split()) for row in rows)}

    def encode(self, row, encoding, schema, *, targets=True):
        example = {"input_ids": np.array(encoding.ids, np.int32)}
        if targets:
            example["words"] = np.float64(len(self.texts(row).split()) / schema["longest"])
        return example

    def collate(self, examples, seeds):
        ids = pad([example["input_ids"] for example in examples]).astype(np.int64)
        mask = pad([np.ones(len(example["input_ids"]), np.int64) for example in examples])
        labelled = "words" in examples[0]
        targets = {"words": np.array([e["words"] for e in examples])} if labelled else {}
        return Batch(
            inputs={"input_ids": ids, "attention_mask": mask},
            targets=targets,
            count=float(len(examples)),
        )

    def head(self, schema):
        return HeadSpec(size=1)

    def metrics(self, schema):
        return [RegressionMoments(target="words")]

    def decode(self, output, batch, schema):
        return [Prediction(words=round(float(value) * schema["longest"])) for value in output[:, 0]]
