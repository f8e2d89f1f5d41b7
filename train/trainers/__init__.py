"""From prepared data to trained weights: tokens, batches, losses, TRL trainers, devices and processes."""
