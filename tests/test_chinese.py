"""Chinese texts: trained from scratch with `wordpiece` and with `char`, and predicted."""

from __future__ import annotations

from pathlib import Path

import pytest

import nlpkit

CHINESE = Path(__file__).parent / "data" / "chinese.csv"


@pytest.mark.parametrize("tokenizer", ["wordpiece", "char"])
def test_a_chinese_data_set_trains_and_predicts_its_own_labels(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = {
        "name": "chinese",
        "data": {"train": str(CHINESE), "validation": 0.25},
        "tokenizer": {"name": tokenizer, "max_length": 48},
        "model": {"name": "transformer", "layers": 1, "hidden": 64, "dropout": 0.2},
        "train": {"epochs": 20, "batch_size": 16, "learning_rate": 3e-3},
        "loader": {"workers": 0},
        "observers": [],
    }
    run = nlpkit.train(config, out=tmp_path / "run")
    assert run.result["samples"]["validation"] == 60
    assert run.metrics["validation"]["accuracy"] > 0.7  # chance: 0.25
    model = nlpkit.load(run.path)
    predictions = model.predict(["我的快递到哪里了？", "请把钱退给我，我要退款。", "𠮷"])
    assert [prediction.label for prediction in predictions[:2]] == ["查询物流", "申请退款"]
    assert set(predictions[2].scores) == {"产品咨询", "修改地址", "查询物流", "申请退款"}
