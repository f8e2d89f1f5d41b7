"""The Data tab: checks a training file, and turns stored answers into training data."""
