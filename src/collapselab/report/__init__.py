"""What is drawn and written from finished, running or crashed runs. Imports no torch."""
