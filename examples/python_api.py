"""Rows in memory in, predictions out: `python examples/python_api.py`.

A pandas DataFrame or a datasets.Dataset with the same columns does as well as the list. The run
goes to runs/python-api, and its model is loaded from there as any program would load it.
"""

import nlpkit

GOOD = (
    "What a lovely evening, we will come back",
    "The soup was excellent and the staff kind",
    "Best pancakes in town, lovely coffee too",
    "Kind staff, fresh bread, a wonderful breakfast",
    "Excellent wine and a wonderful view",
    "The kids loved it, and so did we",
    "Fresh fish, fair prices, excellent service",
    "A wonderful place with lovely music",
)
BAD = (
    "What an awful evening, we will not come back",
    "The soup was cold and the staff rude",
    "Worst pancakes in town, awful coffee too",
    "Rude staff, stale bread, a terrible breakfast",
    "Terrible wine and a dirty table",
    "The kids hated it, and so did we",
    "Stale fish, high prices, terrible service",
    "A dirty place with awful music",
)

rows = [{"text": text, "label": "good"} for text in GOOD]
rows += [{"text": text, "label": "bad"} for text in BAD]

config = {
    "name": "python-api",
    "task": "sequence",
    "data": {"validation": None},  # sixteen rows: too few to hold some out
    "tokenizer": {"name": "wordpiece", "vocab_size": 300},
    "model": {"name": "transformer", "layers": 1, "hidden": 64},
    "train": {"epochs": 20, "batch_size": 8, "learning_rate": 2e-3},
    "loader": {"workers": 0},
}

if __name__ == "__main__":
    run = nlpkit.train(config, data={"train": rows})
    print(f"{run.path}: loss {run.history[0]['loss']:.3f} -> {run.history[-1]['loss']:.3f}")

    model = nlpkit.load(run.path)
    texts = ["Wonderful bread and kind staff", "The table was dirty and the wine awful"]
    for text, prediction in zip(texts, model.predict(texts), strict=True):
        print(f"{prediction.label:5} {prediction.score:.2f}  {text}")
