"""Every setting of the training text changes it as its description says."""

from __future__ import annotations

from pathlib import Path

import pytest

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.step.parts import Parts, build
from collapselab.step.sources import probe, training_sequences, training_text
from collapselab.testing import save_folder, tiny_model


def built(config: RunConfig, **changes: object) -> Parts:
    return build(override(config, {name.replace("__", "."): value for name, value in changes.items()}))


def test_empty_prompt_is_the_end_of_text_token(tiny_config: RunConfig) -> None:
    text = training_text(built(tiny_config), 0)
    assert text.prompts == [[0]]
    assert len(text.samples[0]) == 100


def test_prompt_string_is_tokenised(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, generate__prompt="\n", generate__batch_size=2)
    text = training_text(setup, 0)
    assert [setup.learner.tokenizer.decode(p) for p in text.prompts] == ["\n", "\n"]
    assert text.samples[0] != text.samples[1]


def test_real_prompts_are_windows_of_the_text_and_move(tiny_config: RunConfig, text_file: Path) -> None:
    setup = built(tiny_config, generate__prompt_tokens=16, train__real_text=str(text_file))
    human = text_file.read_text(encoding="utf-8")
    prompts = [setup.learner.tokenizer.decode(training_text(setup, step).prompts[0]) for step in range(3)]
    assert all(len(p) == 16 and p in human for p in prompts)
    assert len(set(prompts)) == 3


def test_own_text_differs_by_step_and_seed_and_repeats_for_the_same(tiny_config: RunConfig) -> None:
    setup, other = built(tiny_config), built(tiny_config, seed=2)
    assert training_text(setup, 0).samples == training_text(setup, 0).samples
    assert training_text(setup, 0).samples != training_text(setup, 1).samples
    assert training_text(setup, 0).samples != training_text(other, 0).samples


def test_real_text_arm_trains_on_human_text(tiny_config: RunConfig, text_file: Path) -> None:
    setup = built(tiny_config, train__source="real", train__real_text=str(text_file))
    text = training_text(setup, 0)
    assert setup.learner.tokenizer.decode(text.samples[0]) in text_file.read_text(encoding="utf-8")
    assert len(text.samples[0]) == 100
    assert text.entropy_nats is None


def test_shuffled_arm_has_the_tokens_of_the_own_arm(tiny_config: RunConfig) -> None:
    own = training_text(built(tiny_config), 0).samples[0]
    shuffled = training_text(built(tiny_config, train__source="shuffled"), 0).samples[0]
    assert shuffled != own
    assert sorted(shuffled) == sorted(own)


def test_other_arm_trains_on_what_the_other_model_writes(tiny_config: RunConfig, tmp_path: Path) -> None:
    folder = save_folder(tiny_model(77), tmp_path / "other")
    setup = built(tiny_config, train__source="other", train__other_model=str(folder))
    assert setup.writer is not None
    ours, theirs = training_text(built(tiny_config), 0), training_text(setup, 0)
    assert theirs.samples != ours.samples
    alone = built(override(tiny_config, {"model": str(folder)}))
    assert theirs.samples == training_text(alone, 0).samples


def test_retokenising_goes_through_the_text(tiny_config: RunConfig) -> None:
    """A random model's bytes are not UTF-8: decoding replaces them by U+FFFD, so the ids do not survive."""
    plain, again = built(tiny_config), built(tiny_config, train__retokenise=True, train__window=100)
    text = training_text(plain, 0)
    tokenizer = plain.learner.tokenizer
    joined = [*text.prompts[0], *text.samples[0]]
    assert training_sequences(plain, text) == [joined]
    expected = tokenizer.encode(tokenizer.decode(joined))
    assert training_sequences(again, text) == [expected]
    assert expected != joined


def test_a_retokenised_sample_that_grew_is_cut_to_the_context(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, train__retokenise=True)
    assert len(training_sequences(setup, training_text(setup, 0))[0]) <= 257


def test_probes_come_from_a_stream_of_their_own_and_at_their_steps(tiny_config: RunConfig) -> None:
    setup = built(tiny_config, collapse__source="probe", collapse__probe_every=5, collapse__probe_samples=2)
    assert probe(setup, 4) == []
    samples = probe(setup, 5)
    assert [len(s) for s in samples] == [200, 200]
    assert training_text(setup, 5).samples[0] not in [s[:100] for s in samples]
    assert probe(built(tiny_config), 5) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"generate.max_new_tokens": 256}, "prompt and sample must fit the context of 256 tokens"),
        ({"generate.context": 512}, "at most the 256 positions of the model, received 512"),
        ({"generate.context_mode": "crop", "generate.max_new_tokens": 300}, "training on 300 tokens does not fit"),
        ({"eval.protocol": "disjoint[512]"}, "needs 512 positions"),
        ({"device": "cuda"}, "cuda"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_config: RunConfig, changes: dict[str, object], rule: str) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        build(override(tiny_config, changes))
    assert caught.value.hint


def test_a_real_text_shorter_than_a_step_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short", encoding="utf-8")
    with pytest.raises(InputError, match="has 9 tokens, a step needs 101"):
        built(tiny_config, train__source="real", train__real_text=str(short))


def test_other_text_in_another_tokenizer_is_cut_to_the_length(tiny_config: RunConfig) -> None:
    """100 tokens of the shipped tokenizer are about 300 bytes, more than the byte model has positions."""
    setup = built(tiny_config, train__source="other", train__other_model="builtin:nano")
    text = training_text(setup, 0)
    assert [len(sample) for sample in text.samples] == [100]


def test_real_prompts_for_a_writer_with_another_tokenizer_are_refused(tiny_config: RunConfig, text_file: Path) -> None:
    with pytest.raises(InputError, match="needs one tokenizer"):
        built(
            tiny_config,
            train__source="other",
            train__other_model="builtin:nano",
            train__real_text=str(text_file),
            generate__prompt_tokens=8,
        )


def test_real_arm_with_a_real_prompt_goes_on_with_its_own_text(tiny_config: RunConfig, text_file: Path) -> None:
    setup = built(tiny_config, train__source="real", train__real_text=str(text_file), generate__prompt_tokens=30)
    text = training_text(setup, 0)
    whole = setup.learner.tokenizer.decode([*text.prompts[0], *text.samples[0]])
    assert (len(text.prompts[0]), len(text.samples[0])) == (30, 100)
    assert whole in text_file.read_text(encoding="utf-8")


def test_probes_must_fit_the_context(tiny_config: RunConfig) -> None:
    with pytest.raises(InputError, match="prompt and probe must fit"):
        built(tiny_config, collapse__source="probe", collapse__probe_tokens=256)
