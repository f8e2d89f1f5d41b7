"""Recorded answers: a model's answers to a set of prompts, stored so that they outlive the model.

prompt_sets        the prompts of a recording: stored ones, a file, a task
costs              the maximum cost of a recording, and its limit
recording_store    recordings as they are stored: begun, finished, hashed, listed
recording_request  what to record, and what a recording still has to do
recorder           asks the model and stores each answer once
recorded_models    `MODEL@recorded`: a completer that answers from the record alone
recording_export   a recording as a JSONL file
coverage           how much of the prompts is recorded, for models that are shut down
"""
