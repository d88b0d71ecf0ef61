"""What happens to a language model that is trained on its own output, how soon, and what prevents it."""
