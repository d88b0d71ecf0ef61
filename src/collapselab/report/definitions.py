"""What each number of a run means, in a sentence; docs/run-directory.md says the same (a test compares them)."""

from __future__ import annotations

from collapselab.metrics import SAMPLE_METRICS

RECORD_NAMES = {
    "train_nll_nats": "loss on the text that is trained on, at temperature 1, before the update",
    "val_nll_nats[TEXT]": "loss on a human text by eval.protocol; only at evaluated steps",
    "val_nll_se[TEXT]": "its standard error, with the windows as the independent units",
    "full_nll_nats[TEXT]": "loss on the whole text by eval.full_protocol; only at full evaluations",
    "full_nll_se[TEXT]": "its standard error, with the windows as the independent units",
    "grad_norm": "Euclidean norm of the gradient before clipping; null at the last step, which makes no update",
    "update_norm": "Euclidean norm of the change of all weights",
    "relative_update_norm": "the same, divided by the norm of the weights before the change",
    "entropy_nats": "mean entropy of the model's next-token distribution while it wrote, at temperature 1, "
    "not truncated",
    "num_tokens": "T",
    "degenerate": "the verdict on the step; null: not judged",
    "reasons": "the rules that were broken",
    "kind": "kind of the step's degeneration",
    "degenerate_share": "degenerate steps among the last collapse.window judged ones",
    "loss_state": "the worst that losses and norms have come to so far: degraded, severe, lost or diverged; "
    "null: none of these",
    "stop": "why the run ends here: collapsed, diverged or budget; null: it goes on",
}
RUN_NAMES = {
    "onset": "the first step at which at least half of the last window of judged steps is degenerate, and stays so for "
    "collapse.patience judged steps in a row",
    "total collapse": "the first step at which all of that window is degenerate",
    "degraded, severe": "the first step at which perplexity on the first human text is a tenth higher than at step 0, "
    "or twice as high",
    "lost": "the first step at which loss on that text is above that of a uniform guess, ln V with a vocabulary of V "
    "tokens, after it was not",
    "diverged": "the first step with a loss or norm that is not finite",
    "n-grams marked in a sample": "words, signs and line ends inside an n-gram that stands earlier in the same sample; "
    "seq_rep_n counts tokens, whose borders are not recorded",
}


def definitions() -> dict[str, str]:
    """Every name on the page with its meaning: of a step, of its sample, of a run."""
    return RECORD_NAMES | {name: metric.description for name, metric in SAMPLE_METRICS.items()} | RUN_NAMES
