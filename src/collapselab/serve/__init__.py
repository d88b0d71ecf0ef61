"""The live page: a folder of runs, watched while they go on, shown in a browser."""
