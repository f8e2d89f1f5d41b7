"""The app at /bot/<model>: one model alone, for a demo."""
