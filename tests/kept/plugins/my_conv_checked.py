from my_conv import ConvOptions, build
from nlpkit.contracts import HeadSpec, Row
from nlpkit.testing import check_model, check_task
from nlpkit_tasks.sequence.config import SequenceConfig
from nlpkit_tasks.sequence.objective import SequenceObjective
from nlpkit_tasks.sequence.task import SequenceTask

ROWS = [
    Row({"text": "one word more than two", "label": "long"}, "rows:1"),
    Row({"text": "two words", "label": "short"}, "rows:2"),
]


def test_the_model_ignores_padding_and_trains_every_parameter():
    options = SequenceConfig()
    _, batch = check_task(
        SequenceTask(options), ROWS, objective=lambda schema: SequenceObjective(options, schema)
    )
    check_model(build, ConvOptions(width=8), batch, head=HeadSpec(size=2))
