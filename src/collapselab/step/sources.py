"""What a step trains on: the model's own text (the paper), or a control's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collapselab.engine.decoding import Generated
from collapselab.randomness import Stream, rng
from collapselab.step.batches import Batch, make_batch
from collapselab.step.learner import Writer
from collapselab.step.parts import Parts

# Of each draw, recorded as means.
MEASURES = ("entropy_nats", "sharpening_nats", "sampler_gap_nats", "top_probability", "nucleus_size")
# Noise, real prompts and shuffles of one step and stream differ in their indices.
PROMPT_INDEX, SHUFFLE_INDEX = 1_000_000, 2_000_000


@dataclass(frozen=True)
class TrainingText:
    """The sequences of one step: prompts and samples as token ids, and the measures of how they were written.

    `measures` are the means over the tokens written of what is known of each draw (`engine.interface.Draw`); `None` for
    text that no model wrote. `nll_nats` is its loss as it was written.
    """

    prompts: list[list[int]]
    samples: list[list[int]]
    measures: dict[str, float | None]
    nll_nats: float | None = None

    @property
    def num_prompt(self) -> int:
        return len(self.prompts[0])


def training_text(parts: Parts, step: int) -> TrainingText:
    """The text of a step by `train.source`; every source has the same number of sequences.

    Sequences have `max_new_tokens` tokens, except where another model's text re-encodes to fewer, or where the
    end-of-text token ends a sample.
    """
    settings = parts.config
    count, length = settings.generate.batch_size, settings.generate.max_new_tokens
    prompts = make_prompts(parts, parts.learner, count, "sample", step)
    match settings.train.source:
        case "real":
            num_prompt = settings.generate.prompt_tokens
            windows = [real_window(parts, num_prompt + length, "data", step, i) for i in range(count)]
            if num_prompt:
                prompts = [window[:num_prompt] for window in windows]
            return TrainingText(prompts, [window[num_prompt:] for window in windows], dict.fromkeys(MEASURES))
        case "other":
            assert parts.writer is not None
            theirs = make_prompts(parts, parts.writer, count, "sample", step)
            written = write(parts, parts.writer, theirs, "sample", step, length)
            samples = [_translate(ids, parts.writer, parts.learner)[:length] for ids in written.token_ids]
            return TrainingText(prompts, samples, _measures(written))
        case "own" | "shuffled":
            written = write(parts, parts.learner, prompts, "sample", step, length)
            samples = written.token_ids
            if settings.train.source == "shuffled":
                samples = [_shuffle(parts, ids, step, i) for i, ids in enumerate(samples)]
            return TrainingText(prompts, samples, _measures(written), written.mean("nll_nats"))


def _measures(written: Generated) -> dict[str, float | None]:
    return {name: written.mean(name) for name in MEASURES}


def probe(parts: Parts, step: int) -> list[list[int]]:
    """Sequences by which the model is judged, never trained on; empty at steps without a probe."""
    settings = parts.config.collapse
    if settings.source != "probe" or step % settings.probe_every:
        return []
    prompts = make_prompts(parts, parts.learner, settings.probe_samples, "probe", step)
    return write(parts, parts.learner, prompts, "probe", step, settings.probe_tokens).token_ids


def start(parts: Parts, step: int) -> list[list[int]]:
    """Sequences of the untouched model, to compare with; only at step 0, and where training samples are judged."""
    config = parts.config
    if step or config.collapse.source != "stream" or not config.collapse.start_samples:
        return []
    prompts = make_prompts(parts, parts.learner, config.collapse.start_samples, "start", step)
    return write(parts, parts.learner, prompts, "start", step, config.generate.max_new_tokens).token_ids


def training_batch(parts: Parts, text: TrainingText, step: int) -> Batch:
    """The batch of a step's text, with the windows of this step."""
    sequences = training_sequences(parts, text)
    windows = [rng(parts.config.seed, "window", step, i) for i in range(len(sequences))]
    return make_batch(sequences, text.num_prompt, parts.config.train, windows, parts.config.device)


def training_sequences(parts: Parts, text: TrainingText) -> list[list[int]]:
    """Prompt and sample of each sequence; decoded and encoded again with `train.retokenise`, so ids may change."""
    joined = [prompt + sample for prompt, sample in zip(text.prompts, text.samples, strict=True)]
    if not parts.config.train.retokenise:
        return joined
    again = [parts.learner.tokenizer.again(ids) for ids in joined]
    # A sample that became longer must still fit; with a window only a block of it is read anyway.
    return again if parts.config.train.window else [ids[: parts.learner.context_length + 1] for ids in again]


def make_prompts(parts: Parts, model: Writer, count: int, stream: Stream, step: int) -> list[list[int]]:
    """The prompts of a step: the configured text, or newly drawn tokens of real text."""
    settings = parts.config.generate
    if settings.prompt_tokens:
        return [real_window(parts, settings.prompt_tokens, stream, step, PROMPT_INDEX + i) for i in range(count)]
    return [model.tokenizer.prompt(settings.prompt)] * count


def write(
    parts: Parts,
    model: Writer,
    prompts: Sequence[Sequence[int]],
    stream: Stream,
    step: int,
    num_tokens: int,
    first_index: int = 0,
) -> Generated:
    """One sequence of `num_tokens` tokens after each prompt, with the noise of this stream and step.

    `first_index` is that of the first sequence in the stream.
    """
    config = parts.config
    return model.write(
        prompts,
        model.rule,
        [rng(config.seed, stream, step, first_index + i) for i in range(len(prompts))],
        num_tokens=num_tokens,
        context=parts.context,
        stop_token=model.tokenizer.end_of_text_id if config.generate.at_end_of_text == "stop" else None,
    )


def real_window(parts: Parts, num_tokens: int, stream: Stream, step: int, index: int) -> list[int]:
    """Tokens of the real training text, from a place drawn by (stream, step, index)."""
    start = rng(parts.config.seed, stream, step, index).integers(0, len(parts.real_ids) - num_tokens + 1)
    return parts.real_ids[start : start + num_tokens]


def _shuffle(parts: Parts, ids: list[int], step: int, index: int) -> list[int]:
    return rng(parts.config.seed, "data", step, SHUFFLE_INDEX + index).permutation(ids).tolist()


def _translate(ids: list[int], source: Writer, target: Writer) -> list[int]:
    """Ids of one model's tokenizer translated to another's, at least one; unchanged if the tokenizers are the same."""
    if source.tokenizer.same_as(target.tokenizer):
        target.tokenizer.check_ids(ids)  # the writer may have more tokens than the learner
        return ids
    return target.tokenizer.encode(source.tokenizer.decode(ids)) or [target.tokenizer.end_of_text_id]
