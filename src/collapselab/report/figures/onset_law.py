"""The law of onset: predicted against observed step, for the arms it was fitted to and for held-out ones."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.sampler import arms, law
from collapselab.analysis.survival import Frame
from collapselab.report.entries import Figure
from collapselab.report.theme import RULE_COLOR, legend, layered, log_ticks, themed
from collapselab.report.values import counted
from collapselab.rundir.frames import Runs

SIDE = 420
BAND = 0.25
FITTED, HELD_OUT = "fitted", "held out"
