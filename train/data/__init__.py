"""Training data: read, checked, split, converted, synthesised. It loads no torch and knows no tokens of a model.

| file | what it holds |
|---|---|
| `conversations` | the types: conversation, example, preference pair, problem |
| `files` | files and data sets as raw rows: JSONL, JSON, CSV, Parquet; `python_values` reads Python's notation |
| `formats` | the formats of rows, and how each becomes an example or a pair |
| `openai_rows`, `turn_rows`, `question_rows` | rows with messages, with turns, with a question and an answer |
| `gemini_rows` | Google's rows |
| `tool_calls`, `tool_texts` | tools and calls in OpenAI's fields, and as text in the messages |
| `role_texts` | conversations in one text |
| `row_fields` | the text and metadata of a row, and the error of one that cannot be read |
| `preference_rows`, `labelled_rows` | rows with two answers (DPO), with a labelled answer (KTO) |
| `unread_fields` | what a row holds and is not read, counted |
| `readers` | a file of any format as examples, pairs and problems |
| `checks` | all checks of a data set; `reports` has their result |
| `example_checks`, `personal_data` | the checks of examples, and of a whole set for consistency |
| `lengths` | percentiles and histograms |
| `splits` | training and validation parts |
| `conversion` | any format to OpenAI's, and a file split into two |
| `synthesis`, `synthesis_prompts` | more examples, written by a served model |
| `advice` | a prompt, retrieval or fine-tuning |
| `endpoint` | `POST /v1/parley/data/check`, which starts `train.planning.check_process` |
| `commands`, `synthesis_command`, `options`, `display` | `parley data …`: commands, shared options, tables |
"""
