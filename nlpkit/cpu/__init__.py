"""What is done on a CPU by hand because torch is slow there; each says when it may go.

    dropout.py    masks; until `torch.nn.Dropout` costs about as much as a copy
    attention.py  attention with dropout; until torch has a fused kernel of it for a CPU
    adamw.py      AdamW by rows; until the fused one of torch takes sparse gradients

On other devices each is torch's own, so what goes here changes no result but on a CPU.
"""
