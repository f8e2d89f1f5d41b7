"""From a finished run to a served model: merge, parity checks, cards, registration and push."""
