"""The report's explorer in a browser: step, sample, values and charts move together."""

from __future__ import annotations

from typing import Any

from browsing import step_shown, until


def sample(page: Any, pane: int = 0) -> str:
    return page.locator("[data-part=sample]").nth(pane).inner_text()


def markers(page: Any) -> list[str]:
    return page.locator(".small-chart .marker").evaluate_all("all => all.map(one => one.dataset.step)")


def value(page: Any, name: str) -> str:
    return page.locator(f"[data-part=values] tr[data-name='{name}'] td").inner_text()


def test_the_explorer_begins_at_the_onset_of_a_collapsed_run(page: Any) -> None:
    assert step_shown(page) == 6
    assert page.locator("[data-part=step]").inner_text() == "step 6 of 11"
    assert page.locator("[data-part=outcome]").inner_text() == (
        "micro, trained on its own text at learning rate 1e-4: most of its samples are degenerate from step 6 on, "
        "all of them by step 10: loops of two tokens or more."
    )


def test_slider_sample_values_and_markers_move_together(page: Any) -> None:
    page.locator("[data-part=slider]").fill("3")
    assert step_shown(page) == 3
    assert sample(page).startswith("step 3: word3x0")
    assert value(page, "train_nll_nats") == "2.7 nats per token"
    assert value(page, "val_nll_nats[austen]") == "3.15 ± 0.04 nats per token"
    assert value(page, "seq_rep_4") == "5 %"
    assert markers(page) == ["3", "3", "3"]


def test_the_slider_can_be_dragged(page: Any) -> None:
    slider = page.locator("[data-part=slider]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 6 / 11, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, middle, steps=5)
    page.mouse.up()
    assert step_shown(page) == 11


def test_keys_move_through_the_steps(page: Any) -> None:
    page.locator("[data-part=slider]").focus()
    for key, step in (("ArrowRight", 7), ("ArrowLeft", 6), ("Home", 0), ("ArrowLeft", 0), ("End", 11), ("PageDown", 1)):
        page.keyboard.press(key)
        assert step_shown(page) == step, key
    page.locator("[data-part=sample]").focus()
    page.keyboard.press("ArrowRight")
    assert step_shown(page) == 2, "keys work beside the slider too"
    assert page.locator("[data-part=slider]").get_attribute("aria-valuetext") == "step 2 of 11"


def test_a_drag_in_a_chart_moves_the_step(page: Any) -> None:
    chart = page.locator("[data-chart=loss]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 100, steps=4)
    page.mouse.up()
    assert step_shown(page) == 11


def test_buttons_jump_to_the_events(page: Any) -> None:
    for words, step in (("first step", 0), ("total collapse", 10), ("onset", 6), ("last step", 11)):
        page.locator("#panes").get_by_role("button", name=words, exact=True).click()
        assert step_shown(page) == step


def test_repeated_n_grams_are_marked(page: Any) -> None:
    marked = page.locator("[data-part=sample] mark")
    # "step 6: " and the first "and so it went on", then 29 copies: the repetition begins within the second copy.
    assert marked.count() == 1
    assert marked.inner_text().startswith("and so it went on and so it went on")
    assert page.locator("[data-part=marked]").inner_text() == (
        "90 % of the 4-grams occur earlier in this sample (seq_rep_4). "
        "These records do not say where tokens end, so marks and barcode are made of words."
    )
    assert page.locator("[data-part=state]").inner_text() == "Step 6: degenerate (a loop)"
    page.locator("[data-part=slider]").fill("0")
    assert marked.count() == 0
    page.locator("#ngram").select_option("2")
    page.locator("[data-part=slider]").fill("6")
    assert marked.count() == 1


def test_a_curve_is_switched_off_and_on(page: Any) -> None:
    curve = page.locator("[data-chart=loss] .curve-1").first
    assert page.locator("[data-chart=loss] path.curve-1").count() == 1
    box = page.get_by_role("checkbox", name="validation loss, austen")
    box.uncheck()
    assert page.locator("[data-chart=loss] path.curve-1").count() == 0
    box.check()
    assert curve.is_visible()


def test_the_loss_axis_can_be_logarithmic(page: Any) -> None:
    ticks = page.locator("[data-chart=loss] text.tick.end")
    before = ticks.all_text_contents()
    page.locator("#log").check()
    assert "0" in before
    assert "0" not in ticks.all_text_contents()


def test_two_runs_are_compared_side_by_side_at_one_step(page: Any) -> None:
    page.locator("#compare").check()
    page.wait_for_selector(".pane:nth-child(2)[data-step]:not([data-step=''])")
    boxes = [page.locator(".pane").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.locator("[data-part=slider]").first.fill("8")
    assert (step_shown(page, 0), step_shown(page, 1)) == (8, 8)
    assert "went on" in sample(page, 0)
    assert "word8x0" in sample(page, 1)
    ranges = page.locator(".small-chart:not([data-chart=barcode])").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('.tick.middle')].at(-1).textContent)"
    )
    assert len(set(ranges)) == 1, "both runs are drawn to one scale of steps"
    page.locator("#linked").uncheck()
    page.locator("[data-part=slider]").nth(1).fill("15")
    assert (step_shown(page, 0), step_shown(page, 1)) == (8, 15)
    page.locator("#compare").uncheck()
    assert page.locator(".pane").count() == 1


def test_a_run_is_chosen_by_menu_and_from_the_overview(page: Any) -> None:
    page.locator("[data-part=run]").select_option("2")
    until(page, "document.querySelector('[data-part=outcome]').textContent.endsWith('the run is running.')")
    assert "word6x0" in sample(page), "the step stays"
    page.get_by_role("link", name="seed 2", exact=True).click()
    until(page, "document.querySelector('[data-part=name]').textContent === 'b'")


def test_the_runs_can_be_sorted(page: Any) -> None:
    rows = page.locator("table.runs tbody tr")
    page.locator("table.runs").get_by_role("button", name="onset").click()
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == ["seed 1", "seed 2", "seed 3"]
    page.locator("table.runs").get_by_role("button", name="onset").click()
    assert [text.split("\t")[0] for text in rows.all_inner_texts()] == ["seed 2", "seed 1", "seed 3"], (
        "unknown ones last"
    )
