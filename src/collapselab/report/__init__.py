"""Figures, tables and the page of finished, running or crashed runs. Imports no torch."""
