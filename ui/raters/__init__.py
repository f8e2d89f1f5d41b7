"""The app at /vote: blind comparisons for raters."""
