"""Models by shape, and what a step must cost: counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_results import SIZE, SMALL, WORK

from benchmarks import models
from benchmarks.costs import (
    Ceilings,
    Rates,
    decode_bytes,
    evaluate_flops,
    floors,
    generate_floor_s,
    rates_for,
    size_of,
    typical,
    update_floor_s,
)
from benchmarks.models import SHAPES, locate, make_model, skeleton
from benchmarks.workload import Workload
from collapselab.inputs.models import GPT2_PARAMETERS, load_model

GPT2_SHAPES = ("gpt2-shape", "gpt2-medium-shape", "gpt2-large-shape", "gpt2-xl-shape")


@pytest.mark.parametrize(("shape", "name"), list(zip(GPT2_SHAPES, GPT2_PARAMETERS, strict=True)))
def test_shapes_have_the_parameters_of_gpt2(shape: str, name: str) -> None:
    assert size_of(skeleton(SHAPES[shape])).parameters == GPT2_PARAMETERS[name]


def test_the_llama_shape_is_that_of_smollm2() -> None:
    size = size_of(skeleton(SHAPES["smollm2-shape"]))
    assert size.parameters == 134_515_008
    assert (size.kv_width, size.attention_width) == (192, 576)


@pytest.mark.parametrize("family", SMALL)
def test_a_shape_is_a_model_folder_with_seeded_weights(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL[family])
    loaded = load_model(locate("small-shape", tmp_path, 1))
    same, other = make_model(SMALL[family], 1).model, make_model(SMALL[family], 2).model
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in same.state_dict().items())
    assert not all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())
    assert loaded.vocab_size == loaded.tokenizer.vocab_size == 300
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("één walvis\n")) == "één walvis\n"
    assert all(loaded.tokenizer.decode([token]) for token in range(300)), "every id has a text"
    assert locate("builtin:nano", tmp_path, 1) == "builtin:nano"


SLOW_READS, SLOW_PRODUCTS = Rates(8.0, 1e12, 4), Rates(1e12, 2.0, 4)


def test_size_of_gpt2_by_hand() -> None:
    size = size_of(skeleton(SHAPES["gpt2-shape"]))
    assert size.body_parameters == 12 * 12 * 768**2
    assert size.head_parameters == 50257 * 768
    assert size.read_parameters == size.parameters - 1024 * 768, "positions are looked up by row"
    assert size.training_bytes == 16 * size.parameters


def test_untied_embeddings_are_not_read() -> None:
    untied = size_of(skeleton(SHAPES["smollm2-shape"]))
    assert untied.read_parameters == untied.parameters, "tied: the table is the output layer too"
    config = skeleton(SHAPES["smollm2-shape"]).config
    config.tie_word_embeddings = False
    with torch.device("meta"):
        size = size_of(type(skeleton(SHAPES["smollm2-shape"]))(config))
    assert size.read_parameters == size.parameters - 49152 * 576
    assert size.head_parameters == 49152 * 576


def test_bytes_of_decoding_by_hand() -> None:
    """Weights 50 × 4 a token; keys and values of 1, 2 and 3 positions: 2 × 2 layers × 1 × 4 bytes a position."""
    assert decode_bytes(SIZE, WORK, 4) == 3 * 200 + 16 * (1 + 2 + 3)
    assert decode_bytes(SIZE, replace(WORK, batch_size=2), 4) == 3 * 200 + 2 * 16 * (1 + 2 + 3)
    assert generate_floor_s(SIZE, WORK, SLOW_READS) == pytest.approx((3 * 200 + 16 * 6) / 8)


def test_operations_of_decoding_by_hand() -> None:
    """A token is 2 × 14 operations and, for each position read, 4 × 2 layers × 3; cropped ones are whole windows."""
    assert generate_floor_s(SIZE, WORK, SLOW_PRODUCTS) == pytest.approx((3 * 28 + 24 * (1 + 2 + 3)) / 2)
    crop = replace(WORK, context=2, context_mode="crop")  # the third token reads two positions: 2 × 10 each, 3 pairs
    assert generate_floor_s(SIZE, crop, SLOW_PRODUCTS) == pytest.approx((2 * 28 + 24 * 3 + 2 * (20 + 4) + 24 * 3) / 2)


def test_operations_of_evaluation_and_update_by_hand() -> None:
    window = 2 * 14 * 4 + 24 * 10  # four positions, ten pairs
    assert evaluate_flops(SIZE, WORK) == 5 * window
    sequence = 2 * 14 * 3 + 24 * 6
    assert update_floor_s(SIZE, WORK, Rates(7.0, 2.0, 4)) == pytest.approx(3 * sequence / 2 + 28 * 100 / 7)
    assert floors(SIZE, WORK, SLOW_PRODUCTS)["evaluate"] == 5 * window / 2


def test_the_floor_of_gpt2_is_that_of_the_specification() -> None:
    """30 GB/s, 0.25 and 2.0 TFLOP/s: 3.3 s and 1.7 s to write, 1.3 s to evaluate, 0.1 + 0.1 s to update."""
    size, work = size_of(skeleton(SHAPES["gpt2-shape"])), Workload("gpt2-shape")
    ceilings = Ceilings(30e9, 0.25e12, 2.0e12, {})
    exact, fast = (floors(size, work, rates_for(dtype, ceilings)) for dtype in ("float32", "bfloat16"))
    assert exact["generate"] == pytest.approx(3.3, abs=0.1)
    assert fast == pytest.approx({"generate": 1.7, "evaluate": 1.3, "update": 0.2}, abs=0.1)


def test_typical_ceilings_are_medians() -> None:
    several = [Ceilings(b, f, 2 * f, {}) for b, f in ((1.0, 9.0), (3.0, 7.0), (2.0, 8.0))]
    assert typical(several) == Ceilings(2.0, 8.0, 16.0, {})
