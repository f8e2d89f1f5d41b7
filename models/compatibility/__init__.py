"""Whether vLLM can serve a model: its folder, architecture, adapter and engine options."""
