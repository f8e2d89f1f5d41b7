"""OpenAI's graders: a rule, a metric, a judge or a program that scores one answer to one item."""
