"""Models as judges of one answer or two, by a rubric; canaries; agreement with people."""
