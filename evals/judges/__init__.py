"""Models as judges: one answer or two, by a rubric, and how far they agree with people."""
