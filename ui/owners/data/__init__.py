"""The Data tab: checks a training file and shows the report."""
