"""The owners' app at /: one file or folder a tab."""
