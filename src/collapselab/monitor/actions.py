"""What a monitor does about an event: log, alert, stop, or any function."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from collapselab.errors import InputError, nearest
from collapselab.monitor.troubles import Event

Named = Literal["log", "alert", "stop", "keep"]
Action = Named | Callable[[Event], object]
NAMED: dict[str, str] = {
    "log": "a line of the logger `collapselab`",
    "alert": "an alert of trackio or wandb, where the training has loaded one",
    "stop": "the training stops after this step (`monitor.should_stop`)",
    "keep": "the last healthy checkpoint of a Trainer is kept beside those that it rotates",
}
_log = logging.getLogger("collapselab.monitor")


def checked(actions: Action | Sequence[Action]) -> tuple[Action, ...]:
    """The actions as a tuple.

    Raises:
        InputError: one is neither known nor callable.
    """
    given = cast(tuple[Action, ...], (actions,) if isinstance(actions, str) or callable(actions) else tuple(actions))
    for action in given:
        if not callable(action) and action not in NAMED:
            raise InputError(f"an action is one of {', '.join(NAMED)} or a function, received {action!r}",
                             nearest(str(action), NAMED))  # fmt: skip
    return given


def act(actions: Sequence[Action], event: Event) -> None:
    """Carries out the actions that need nothing but the event; no failure of one ends the training."""
    for action in actions:
        try:
            if callable(action):
                action(event)
            elif action == "log":
                _log.warning("step %d, %s: %s: %s", event.step, event.stage, event.name, event.message)
            elif action == "alert":
                _alert(event)
        except Exception as error:  # somebody else's function, or a tracker without a connection
            _log.warning("the action %r failed: %s", action, error)


def _alert(event: Event) -> None:
    title = f"collapselab: {event.name} at step {event.step}"
    trackers: list[Any] = [sys.modules[name] for name in ("trackio", "wandb") if name in sys.modules]
    for tracker in trackers:
        tracker.alert(title=title, text=event.message)
    if not trackers:
        _log.warning("no tracker is loaded, so the alert is here: %s: %s", title, event.message)
