"""What runs say: intervals, survival of onset, and the paper's claims with verdicts."""
