"""OpenAI's graders: a rule, a metric, a judge or a program that scores an answer to an item."""
