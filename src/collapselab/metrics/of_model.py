"""The numbers of a model and its weights, computed where those are (`kinds.NEEDS`): a line of the table for each."""

from __future__ import annotations

from collapselab.metrics.kinds import Metric
from collapselab.metrics.reference import RANKS
from collapselab.records import Number

OF_MODEL: dict[str, Metric] = {
    # --- the model's predictions while writing, at temperature 1, not truncated
    "entropy_nats": Metric(
        None,
        Number(
            "nats per token",
            "mean entropy of the model's next-token distributions during generation, at temperature 1, not truncated",
            "entropy of the model's predictions",
            "entropy",
        ),
        "writing",
    ),
    "sharpening_nats": Metric(
        None,
        Number(
            "nats per token",
            "mean of KL(q‖p) over the tokens written: q is what they were drawn from, p the model; 0 if q is p",
            "sharpening by the sampler",
        ),
        "writing",
    ),
    "sampler_gap_nats": Metric(
        None,
        Number("nats per token", "mean of log q(token) − log p(token) over the tokens written", "gap to the sampler"),
        "writing",
    ),
    "top_probability": Metric(
        None,
        Number(
            "probability",
            "mean probability of the likeliest next token during generation",
            "probability of the likeliest token",
        ),
        "writing",
    ),
    "nucleus_size": Metric(
        None,
        Number(
            "tokens",
            "mean size of the smallest set of next tokens of probability 0.9 during generation",
            "tokens that make up 0.9 of the probability",
        ),
        "writing",
    ),
    "effective_vocabulary": Metric(None, Number("tokens", "e^entropy_nats", "effective vocabulary"), "writing"),
    # --- the tail of human text
    **{
        f"nll_nats_rank_{name}": Metric(
            None,
            Number(
                "nats per token",
                f"loss on the first text's tokens of reference rank {ranks}; by eval.protocol",
                f"loss on tokens of rank {ranks}",
            ),
            "evaluation",
        )
        for name, ranks in RANKS.items()
    },
    "tail_gap_nats": Metric(
        None,
        Number(
            "nats per token",
            "rise of the loss since step 0 in the rarest of these bins − in the commonest",
            "rise of the loss, rarest − commonest tokens",
        ),
        "evaluation",
    ),
    # --- predictions under fixed real contexts, compared with the untouched model's
    "kl_from_start_nats": Metric(
        None,
        Number(
            "nats per token",
            "mean KL(p_0‖p_t) under fixed contexts of the first text",
            "KL(first model ‖ model) on human text",
        ),
        "contexts",
    ),
    "kl_to_start_nats": Metric(
        None,
        Number(
            "nats per token",
            "mean KL(p_t‖p_0) under fixed contexts of the first text",
            "KL(model ‖ first model) on human text",
        ),
        "contexts",
    ),
    "real_entropy_nats": Metric(
        None, Number("nats per token", "mean entropy of p_t under these contexts", "entropy on human text"), "contexts"
    ),
    "real_top_probability": Metric(
        None,
        Number(
            "probability",
            "mean probability of the likeliest token under these contexts",
            "probability of the likeliest token on human text",
        ),
        "contexts",
    ),
    "real_nucleus_size": Metric(
        None,
        Number(
            "tokens",
            "mean size of the smallest set of probability 0.9 under these contexts",
            "tokens that make up 0.9 of the probability on human text",
        ),
        "contexts",
    ),
    # --- the untouched model's view of what is written now
    "first_model_nll_nats": Metric(
        None,
        Number(
            "nats per token",
            "loss of the untouched model on the step's training text",
            "loss of the first model on own text",
        ),
        "first model",
    ),
    "own_nll_gap_nats": Metric(
        None,
        Number("nats per token", "first_model_nll_nats − train_nll_nats", "loss on own text, first model − model"),
        "first model",
    ),
    # --- weights
    "grad_norm": Metric(
        None,
        Number(
            "–",
            "Euclidean norm of the gradient before clipping; null at the last step, which makes no update",
            "gradient norm",
        ),
        "weights",
    ),
    "update_norm": Metric(None, Number("–", "Euclidean norm of the change of all weights", "update norm"), "weights"),
    "relative_update_norm": Metric(
        None,
        Number(
            "–", "update_norm divided by the norm of the weights before the change", "update norm / norm of the weights"
        ),
        "weights",
    ),
    "path_length": Metric(
        None,
        Number(
            "–",
            "sum of the norms of all updates so far, this step's included, divided by the norm of the first weights",
            "path of the weights",
        ),
        "weights",
    ),
    "displacement": Metric(
        None,
        Number(
            "–",
            "distance of the weights from the first ones after this step's update, divided by the norm of the first",
            "distance of the weights from the first",
        ),
        "weights",
    ),
}
