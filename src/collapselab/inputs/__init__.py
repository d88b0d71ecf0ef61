"""What a run is given, by name: models, tokenizers and texts."""
