"""Contract checks for plugin authors: each raises a PluginError that says what is broken.

In a plugin's own tests::

    def test_my_task_and_my_model_keep_their_contracts():
        task = MyTask(MyTaskConfig())
        codec, batch = check_task(task, rows, objective=lambda schema: MyObjective(None, schema))
        check_model(build, MyModelConfig(), batch, head=codec.head, axes=codec.inputs)
"""

from __future__ import annotations

from nlpkit.testing.metrics import check_metric
from nlpkit.testing.models import check_model
from nlpkit.testing.tasks import check_task

__all__ = ["check_metric", "check_model", "check_task"]
