"""Tests of train/finetuning/, through the gateway and the OpenAI SDK where possible."""
