"""The format `traced`: the operations of a forward pass, as torch.jit records them."""

import torch

import nlpkit
from nlpkit.contracts import Artifact


class Traced:
    def __init__(self, options):
        pass

    def export(self, model, inputs, sample, out):
        arguments = tuple(torch.from_numpy(sample[name]) for name in inputs)
        torch.jit.trace(model, arguments, check_trace=False).save(str(out / "model.traced"))
        return Artifact(path=out, files=[out / "model.traced"], note="Load it with torch.jit.load.")

    def open(self, path):
        model = torch.jit.load(str(path / "model.traced"))

        @torch.inference_mode()
        def logits(inputs):
            return model(*map(torch.from_numpy, inputs.values())).numpy()

        return logits


@nlpkit.hookimpl
def nlpkit_exporters():
    yield nlpkit.ExporterRecord(
        name="traced", target="my_traced:Traced", summary="torch.jit", needs=("torch",)
    )
