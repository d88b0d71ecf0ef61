// ▶: from step 0 to the collapse in some ten seconds; ❚❚ stops, and ▶ goes on from there.

const PLAY_MS = 10_000;

function togglePlay(pane) {
  if (pane.timer) {
    stopPlaying(pane);
    pane.isPaused = true;
  } else if (pane.data && pane.steps.length > 1) {
    const total = METADATA.runs[pane.run].events.total_collapse_step ?? Infinity;
    const last = nearestIndex(pane.steps, total) || pane.steps.length - 1;
    play(pane, pane.isPaused && pane.stop < last ? pane.stop : 0, last);
  }
}

function play(pane, first, last) {
  const [from, to] = [pane.steps[first], pane.steps[last]];
  const pace = (to - pane.steps[0]) / PLAY_MS; // steps per millisecond
  const started = performance.now();
  pane.find("play").textContent = "❚❚ pause";
  pane.find("step").setAttribute("aria-live", "off");
  goTo(pane, first);
  const tick = (now) => {
    const step = from + Math.max(0, now - started) * pace;
    const stop = nearestIndex(pane.steps, Math.min(step, to));
    if (stop !== pane.stop) goTo(pane, stop);
    if (step >= to) stopPlaying(pane);
    else pane.timer = requestAnimationFrame(tick);
  };
  pane.timer = requestAnimationFrame(tick);
}

function stopPlaying(pane) {
  cancelAnimationFrame(pane.timer);
  pane.timer = 0;
  pane.isPaused = false;
  pane.find("play").textContent = "▶ play";
  pane.find("step").removeAttribute("aria-live");
}
