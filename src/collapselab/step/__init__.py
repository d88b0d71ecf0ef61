"""One step of the experiment: what is trained on, the batch, the losses, the record."""
