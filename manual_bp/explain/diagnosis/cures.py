"""What usually helps against each kind of finding, and where that is told."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CURES", "Cure"]


@dataclass(frozen=True)
class Cure:
    """One or two sentences, and their source."""

    text: str
    source: str


CURES: dict[str, Cure] = {
    # numbers that are none
    "parameter not finite": Cure(
        "Load the last good checkpoint and look at the step that spoiled it: its learning rate, "
        "its gradient, its batch. What has become NaN never comes back.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 4.1 (overflow and underflow)",
    ),
    "input not finite": Cure(
        "Clean the data: drop or fill in what is missing, and assert torch.isfinite(batch).all() "
        "in the dataset.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 11.5 (debugging strategies)",
    ),
    "not finite forward": Cure(
        "Keep the argument inside the function's domain: clamp it or add an epsilon before log, "
        "division and sqrt; take log_softmax, logsumexp or a loss with logits, which subtract the "
        "maximum, instead of exp.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 4.1; Blanchard, Higham & "
        "Higham 2021, IMA J. Numer. Anal. 41 (accurately computing log-sum-exp and softmax)",
    ),
    "not finite backward": Cure(
        "The function is finite here and its slope is not: add an epsilon inside the root, or use "
        "torch.where on the argument too, not on the result alone: 0 times infinity is NaN.",
        "PyTorch documentation, Autograd mechanics, 'Gradients for non-differentiable functions'; "
        "JAX FAQ, 'Gradients contain NaN where using where'",
    ),
    # no gradient
    "detached": Cure(
        "Take the detach, item() or numpy() away and compute on with the tensor; where it is meant "
        "(a target network, a stop-gradient), give the optimizer only the parameters that learn.",
        "PyTorch documentation, Tensor.detach",
    ),
    "not differentiable": Cure(
        "A choice has no slope: train on the soft values before it, or use a straight-through or "
        "Gumbel-softmax estimator.",
        "Bengio, Leonard & Courville 2013, arXiv:1308.3432; Jang, Gu & Poole 2017, "
        "arXiv:1611.01144",
    ),
    "under no_grad": Cure(
        "Leave torch.no_grad() to evaluation, or put only what is not to learn inside it.",
        "PyTorch documentation, Autograd mechanics, 'Locally disabling gradient computation'",
    ),
    "frozen": Cure(
        "If it is to learn: parameter.requires_grad_(True). If not, all is well.",
        "PyTorch documentation, Autograd mechanics, 'Setting requires_grad'",
    ),
    "unused": Cure(
        "Call it in forward or delete it; DistributedDataParallel refuses such parameters unless "
        "find_unused_parameters is set.",
        "PyTorch documentation, DistributedDataParallel",
    ),
    "not in the loss": Cure(
        "Add what it computes to the loss, or delete it.",
        "PyTorch documentation, DistributedDataParallel, 'find_unused_parameters'",
    ),
    "no gradient returned": Cure(
        "The backward on its way returns None for it: check that Function with manual_bp.check().",
        "PyTorch documentation, Extending PyTorch, 'Extending torch.autograd'",
    ),
    "zero gradient": Cure(
        "Look at the operation that is named: what has slope 0 on the whole batch lets nothing "
        "learn that lies before it.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.3",
    ),
    "not in the optimizer": Cure(
        "Give it to the optimizer: torch.optim.SGD(model.parameters(), ...), made after the model "
        "is complete, or optimizer.add_param_group(...).",
        "PyTorch documentation, torch.optim, 'Constructing it'",
    ),
    # units
    "dead units": Cure(
        "Lower the learning rate, initialize by He's rule with biases at zero, or take a LeakyReLU "
        "or GELU, whose slope is not zero below zero.",
        "Lu, Shin, Su & Karniadakis 2019, arXiv:1903.06733; Maas, Hannun & Ng 2013 (LeakyReLU); He "
        "et al. 2015, arXiv:1502.01852",
    ),
    "saturated units": Cure(
        "Smaller initial weights (Glorot's), normalized inputs, BatchNorm before the activation; "
        "or ReLU in the hidden layers.",
        "Glorot & Bengio 2010, AISTATS, sections 3 and 4; Ioffe & Szegedy 2015, arXiv:1502.03167",
    ),
    "symmetric units": Cure(
        "Draw the weights at random (torch.nn.init); only biases may start equal.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 8.4 (breaking symmetry)",
    ),
    # signals through depth and time
    "vanishing gradient": Cure(
        "ReLU or GELU for sigmoids, He's or Glorot's initialization, residual connections, "
        "normalization layers.",
        "Glorot & Bengio 2010, AISTATS; He et al. 2015, arXiv:1502.01852 and arXiv:1512.03385",
    ),
    "exploding gradient": Cure(
        "Initialize by He's or Glorot's rule, normalize inputs and targets, clip the norm "
        "(torch.nn.utils.clip_grad_norm_), lower the learning rate.",
        "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063; He et al. 2015, arXiv:1502.01852",
    ),
    "exploding activations": Cure(
        "Initialize by He's or Glorot's rule, put in normalization layers; scale what a residual "
        "branch adds.",
        "He et al. 2015, arXiv:1502.01852; Ba, Kiros & Hinton 2016, arXiv:1607.06450",
    ),
    "exploding through time": Cure(
        "Clip the norm of the gradient, initialize the recurrent weights orthogonally, take an "
        "LSTM or GRU, or shorten what is unrolled.",
        "Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063; Hochreiter & Schmidhuber 1997",
    ),
    # how layers are used
    "softmax twice": Cure(
        "Hand the loss what it asks for: cross_entropy and binary_cross_entropy_with_logits take "
        "logits and normalize themselves, nll_loss takes log_softmax.",
        "PyTorch documentation, torch.nn.CrossEntropyLoss, BCEWithLogitsLoss and NLLLoss",
    ),
    "inputs not normalized": Cure(
        "Subtract the mean and divide by the standard deviation of the training set, feature by "
        "feature, or begin with a normalization layer.",
        "LeCun, Bottou, Orr & Mueller 1998, Efficient BackProp, section 4.3",
    ),
    "nothing varies": Cure(
        "A normalization layer cannot scale what is the same for the whole batch: use larger or "
        "mixed batches, GroupNorm or LayerNorm, or look for what made its input constant.",
        "Ioffe & Szegedy 2015, arXiv:1502.03167; Wu & He 2018, arXiv:1803.08494 (small batches)",
    ),
    "padding row": Cure(
        "Set embedding.weight[padding_idx] to zero after every initialization of one's own: its "
        "gradient is zero by design, so what it holds stays for good.",
        "PyTorch documentation, torch.nn.Embedding, 'padding_idx'",
    ),
    # steps
    "step too long": Cure(
        "Divide the learning rate by 3 or 10, warm it up, or clip the gradient.",
        "Goodfellow, Bengio & Courville 2016, Deep Learning, section 11.4.1; Goyal et al. 2017, "
        "arXiv:1706.02677 (warm-up)",
    ),
    "step too short": Cure(
        "Multiply the learning rate by 10 until the loss falls visibly; a range test finds it in "
        "one run.",
        "Smith 2017, arXiv:1506.01186 (learning rate range test); Stanford CS231n, notes on "
        "training ('ratio of weights:updates')",
    ),
    "weight decay": Cure(
        "Lower weight_decay until the loss decides where the weights go: 1e-4 to 1e-2 with SGD; "
        "with Adam take AdamW, and leave biases and norms out.",
        "Loshchilov & Hutter 2019, arXiv:1711.05101 (decoupled weight decay)",
    ),
}
