"""Plants known faults in the package, one at a time, and says whether a test catches each.

python tools/planted_faults.py [WORD ...]    the faults whose names contain one of these words; all of them take minutes

Each fault replaces one piece of text in a copy of src, against which its test file (or one test in it) is run. The exit
status is 1 if a fault survives, or if its text is no longer in the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300


class Fault(NamedTuple):
    """`before` occurs once in `file`; replacing it by `after` is the fault, which must make `tests` fail."""

    name: str
    file: str
    before: str
    after: str
    tests: str


# fmt: off
FAULTS = (
    # The loop.
    Fault("two updates on every sample", "loop.py",
          "range(config.train.steps_per_sequence - 1)",
          "range(config.train.steps_per_sequence)", "invariants/test_plain_loop.py"),
    Fault("no evaluation at the last step", "loop.py",
          'if ended_by is not None and step % config.eval.every:',
          "if False:", "invariants/test_loop_parts.py"),
    Fault("no whole-text evaluation at onset", "loop.py",
          "or onset_is_news or",
          "or", "invariants/test_loop_parts.py"),
    Fault("redraw draws the same windows", "step/parts.py",
          'rng(self.config.seed, "evaluation", step + 1)',
          'rng(self.config.seed, "evaluation", 1)', "invariants/test_loop_parts.py"),
    Fault("evaluation windows from another stream", "step/parts.py",
          'rng(0, "evaluation", 0)',
          'rng(0, "window", 0)', "invariants/test_loop_parts.py"),
    Fault("an update without the checkpoint's lock", "step/learner.py",
          "        with self._weights_in_use:\n            stats = update(",
          "        if True:\n            stats = update(", "invariants/test_loop_parts.py"),
    Fault("loop_* of the first instead of the longest loop", "metrics/repetition.py",
          "if loop.span > best.span and loop.copies >= 2:",
          "if not best.period and loop.copies >= 2:", "unit/metrics"),
    Fault("the last place of a real text never drawn", "step/sources.py",
          "len(parts.real_ids) - num_tokens + 1)",
          "max(1, len(parts.real_ids) - num_tokens))", "invariants/test_loop_parts.py"),
    Fault("no template at exactly the threshold", "collapse/rules.py",
          "/ len(grams) >= share for known",
          "/ len(grams) > share for known", "unit/collapse/test_verdicts.py"),
    Fault("a caption with the first loss for the last", "report/figures/losses.py",
          "for index in (0, -1)", "for index in (0, 0)", "unit/report/figures/test_figure_losses.py"),
    Fault("the digest of a training text is missing", "step/parts.py",
          "in (texts | others).items()",
          "in texts.items()", "unit/inputs/test_text_digests.py"),
    Fault("the digest of an evaluation text is missing", "step/parts.py",
          "in (texts | others).items()",
          "in others.items()", "unit/inputs/test_text_digests.py"),
    Fault("no engine is notified of an update", "step/learner.py",
          "            self.weights_changed()\n        return stats",
          "        return stats", "invariants/test_engines_agree.py"),
    Fault("no engine is notified of restored weights", "loop.py",
          "    learner.weights_changed()  # perhaps, since the engines were built\n",
          "", "invariants/test_engines_agree.py"),
    Fault("the scorer is not notified of an update", "step/learner.py",
          "        self._scorer.weights_changed()\n",
          "", "invariants/test_engines_agree.py"),
    # Numbers.
    Fault("the bytes of a text instead of the windows'", "step/evaluate.py",
          "int((before[end] - before[first]).sum())",
          "int(before[-1])", "unit/inputs/test_encoded_text.py"),
    Fault("step 0 counts in the pace", "cli/live.py",
          "pace_s = (now - self._first_shown) / done",
          "pace_s = (now - self._started) / done", "unit/cli/test_time_left.py"),
    Fault("a setting that came later changes old run ids", "config/identity.py",
          "is_as_before = path in LATER and value == LATER[path]",
          "is_as_before = False", "unit/config/test_config.py"),
    Fault("threads without an upper bound", "config/schema.py",
          "ge=1, le=4096, description",
          "ge=1, description", "unit/config/test_config.py"),
    # Models and tokenizers.
    Fault("weights of a GGUF file that the model does not use", "inputs/model_checks.py",
          "if header.num_elements > used:",
          "if False:", "unit/inputs/test_model_checks.py"),
    Fault("a GGUF header that is cut off", "inputs/gguf_header.py",
          "if end > len(self._content):",
          "if False:", "unit/inputs/test_gguf_header.py"),
    Fault("an eos token id that is none", "inputs/tokenizers.py",
          "if first is None or (type(first) is int and first >= 0):",
          "if True:", "unit/inputs/test_begin_token.py"),
    Fault("BPE dropout stays on", "inputs/tokenizers.py",
          "backend.model.dropout = None",
          "pass", "unit/inputs/test_tokenization.py"),
    Fault("a tokenizer that inflates texts", "inputs/tokenizers.py",
          "    check_growth(backend, origin)\n",
          "", "unit/inputs/test_tokenization.py"),
    Fault("a text that the tokenizer cannot encode", "inputs/tokenizers.py",
          '_guarded(lambda: self.backend.encode(text, add_special_tokens=False), "encode this text")',
          "self.backend.encode(text, add_special_tokens=False)", "unit/inputs/test_tokenization.py"),
    Fault("advice of transformers on the display", "inputs/models.py",
          "    logging.set_verbosity_error()\n",
          "", "unit/inputs/test_model_checks.py"),
    Fault("transformers talks in commands", "cli/__init__.py",
          'os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")',
          "pass", "unit/inputs/test_model_checks.py"),
    Fault("a pipe instead of config.json is waited for", "inputs/model_checks.py",
          "if not path.is_file():",
          "if False:", "unit/inputs/test_model_files.py::test_a_pipe_in_place_of_a_file_is_not_waited_for"),
    Fault("a pipe instead of a run's file is waited for", "files.py",
          "if path.exists() and not path.is_file():",
          "if False:", "unit/rundir/test_files.py"),
    # Endings and streams.
    Fault("a drawing process is begun again though it never drew", "report/drawing.py",
          "if not self._has_drawn:",
          "if False:", "unit/report/test_drawing.py"),
    Fault("closed descriptors are taken by the run's files", "cli/streams.py",
          "    _fill_closed_descriptors()\n    former",
          "    former", "e2e/test_endings.py::test_no_file_is_opened_as_a_closed_standard_stream"),
    Fault("what acts on a terminal passes the streams", "cli/streams.py",
          '_ACTING.sub("\\N{REPLACEMENT CHARACTER}", text)',
          "text", "e2e/test_endings.py::test_a_stream_replaces_what_it_cannot_show"),
    Fault("an error of a library without what was being done", "errors.py",
          "        error.add_note(what)\n",
          "", "unit/cli/test_faults.py"),
    Fault("SIGHUP ends a run at once", "interruptions.py",
          "else [signal.SIGTERM, signal.SIGHUP]",
          "else [signal.SIGTERM]", "e2e/test_cli.py::test_a_signal_leaves_a_checkpoint_and_exit_code_75"),
    # What is read back, and reports.
    Fault("records of other steps than the summary's", "rundir/run_files.py",
          'if last_step != summary.get("last_step", last_step):',
          "if False:", "unit/rundir/test_damaged_runs.py::test_packed_records_end_at_the_step_of_their_summary"),
    Fault("records that are not those of the summary", "rundir/run_files.py",
          "if name in summary and not _is_same(said, found):",
          "if False:", "unit/rundir/test_damaged_runs.py::test_a_file_of_another_run_is_found_out"),
    Fault("a changed setting", "rundir/run_files.py",
          'if content["run_id"] != expected:',
          "if False:", "unit/rundir/test_damaged_runs.py::test_a_changed_setting_is_not_that_of_the_run_id"),
    Fault("a newer schema", "rundir/layout.py",
          "if schema not in READ_VERSIONS:",
          "if False:", "unit/rundir/test_damaged_runs.py::test_a_newer_schema_is_not_guessed_at"),
    Fault("steps out of order", "rundir/run_files.py",
          "if step <= before:",
          "if False:", "unit/rundir/test_damaged_runs.py::test_steps_out_of_order_are_found_out"),
    Fault("a report that leaves out a run ends well", "cli/reporting.py",
          "    raise_if_left_out(loaded)\n",
          "", "unit/rundir/test_damaged_runs.py::test_the_report_says_which_run_is_left_out"),
    Fault("the page does not say what is left out", "report/page.py",
          "damages=page_parts.damages(runs)",
          "damages=[]", "unit/rundir/test_damaged_runs.py::test_the_report_says_which_run_is_left_out"),
    Fault("a sweep with a damaged run ends well", "cli/sweeping.py",
          "        raise_if_damaged(tasks)\n",
          "", "unit/rundir/test_damaged_runs.py::test_a_sweep_with_a_damaged_run_is_planned"),
    Fault("no versions on the page", "rundir/frames.py",
          "for key, value in flatten(files.environment)",
          "for key, value in ()", "unit/rundir/test_damaged_runs.py::test_the_versions_of_a_run_stand_on_its_page"),
    Fault("a full disk takes the former page", "report/writing.py",
          "    replace_file(place, content)\n",
          "    place.write_bytes(content if isinstance(content, bytes) else content.encode())\n",
          "unit/report/test_report_writing.py"),
    Fault("the folder of a report is not checked", "cli/reporting.py",
          '    check_folder(out.parent, "--out")\n',
          "", "e2e/test_mistakes.py"),
    Fault("the folder of figures is not checked", "cli/reporting.py",
          '        check_folder(figures, "--figures")\n',
          "        pass\n", "e2e/test_mistakes.py"),
)
# fmt: on


def main() -> int:
    """Plants the faults named on the command line; 1 if one was not caught."""
    chosen = [fault for fault in FAULTS if not sys.argv[1:] or any(word in fault.name for word in sys.argv[1:])]
    num_caught = 0
    with tempfile.TemporaryDirectory() as folder:
        for fault in chosen:
            found = planted(fault, Path(folder) / "src")
            num_caught += found == "caught"
            print(f"{found:<12}{fault.name} ({fault.file}): tests/{fault.tests}", flush=True)
    print(f"{num_caught} of {len(chosen)} caught")
    return int(num_caught < len(chosen))


def planted(fault: Fault, source: Path) -> str:
    """The result of a fault: `caught`, `SURVIVED`, or why it could not be tried."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    file = source / "collapselab" / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.before) != 1:
        return "NO PLACE"
    file.write_text(text.replace(fault.before, fault.after), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", f"tests/{fault.tests}"]
    try:
        tested = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "HUNG"
    return {0: "SURVIVED", 1: "caught"}.get(tested.returncode, "NO TEST")


if __name__ == "__main__":
    sys.exit(main())
