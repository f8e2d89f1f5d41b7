"""Programs that others wrote, unchanged, against real engines: libraries, agents, vLLM's benchmark, lm-eval; curl.

Of the demo's models one has learned to call tools; what is forced fits its schema by vLLM's constrained decoding.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from models.demo import FOLDER
from tests.clients.programs import CLIENTS, HERE, Server, run, run_command, run_text
from tests.stack import ROOT

pytestmark = pytest.mark.engine

TOOLS = "support-tools"
NUMBER = "73194628"
TOPICS = ("cancel", "delivery", "refund", "payment", "account", "other")
DOCS_ADDRESS = "http://127.0.0.1:8000/v1"


def test_langchain(parley: Server) -> None:
    met = run("langchain", "langchain_chat", parley, parley.chat)
    assert met["answer"].strip()
    assert met["streamed"] == met["answer"]
    assert met["tokens"] == met["streamed tokens"] > 0
    assert met["batch"] == 3
    # A small model cannot choose well, but what it says fits the schema.
    assert met["ticket"]["topic"] in ("delivery", "money")
    assert isinstance(met["ticket"]["urgent"], bool)


def test_litellm(parley: Server) -> None:
    met = run("litellm", "litellm_chat", parley, parley.chat)
    assert met["answer"].strip()
    assert met["streamed"] == met["async"] == met["answer"]
    assert met["tokens"] == met["streamed tokens"] > 0
    assert met["unknown model"] == "NotFoundError"


def test_instructor_and_pydantic_ai(parley: Server) -> None:
    met = run("agents", "agents_chat", parley, TOOLS)
    for ticket in (met["tool_call"], met["json_schema_mode"], met["agent's ticket"]):
        assert ticket["topic"] in TOPICS
        assert isinstance(ticket["urgent"], bool)
    assert met["agent"].strip()
    assert NUMBER in met["agent with a tool"]  # it told the result, if not word by word
    assert met["agent's tokens"] > 0


def test_vercels_ai_and_run_tools(parley: Server) -> None:
    met = run("node", "agents", parley, TOOLS)
    assert met["answer"].strip()
    assert met["streamed"] == met["answer"]
    assert met["tokens"] > 0
    assert met["object"]["topic"] in TOPICS
    ((tool, asked),) = met["called"]  # by force
    assert tool == "trackOrder"
    assert met["tool's result"] == [f"Order {asked['number']} is here."]
    assert NUMBER in met["free to call"]
    assert met["runTools asked"] == [NUMBER]
    assert met["runTools result"] == f"Order {NUMBER} arrives on Friday."
    assert NUMBER in met["runTools answer"]


def test_the_first_try_in_the_docs(parley: Server) -> None:
    """Its programs are run as they are printed, with another address."""
    section = (ROOT / "docs" / "sdk-client.md").read_text("utf-8").partition("## A first try with tools")[2]
    programs = re.findall(r"```(python|js)\n(.*?)```", section, re.DOTALL)
    printed = [run_text(language, text.replace(DOCS_ADDRESS, parley.base_url), parley) for language, text in programs]
    arrives = f"Order {NUMBER} arrives on Friday."
    assert printed == [
        arrives, f"Order {NUMBER} is cancelled.", arrives, f"topic='refund' number='{NUMBER}' urgent=False"
    ]  # fmt: skip


def test_a_call_in_a_stream_is_the_same_call(parley: Server) -> None:
    client = OpenAI(base_url=parley.base_url, api_key=parley.key, max_retries=0)
    parameters = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}
    tools: Any = [{"type": "function", "function": {"name": "cancelOrder", "parameters": parameters}}]
    settings: Any = {"model": TOOLS, "tools": tools, "temperature": 0, "max_tokens": 100}
    asked: Any = [{"role": "user", "content": f"Please cancel my order {NUMBER}."}]
    call = client.chat.completions.create(messages=asked, **settings).choices[0]
    assert call.finish_reason == "tool_calls"
    deltas = [
        chunk.choices[0].delta for chunk in client.chat.completions.create(messages=asked, stream=True, **settings)
    ]
    pieces = [piece.function for delta in deltas for piece in delta.tool_calls or ()]
    assert [piece.name for piece in pieces if piece.name] == ["cancelOrder"]
    assert "".join(piece.arguments or "" for piece in pieces) == call.message.tool_calls[0].function.arguments
    assert json.loads(call.message.tool_calls[0].function.arguments) == {"number": NUMBER}
    plain = client.chat.completions.create(messages=[{"role": "user", "content": "I forgot my password."}], **settings)
    assert plain.choices[0].message.tool_calls is None
    assert plain.choices[0].message.content


def test_llm(parley: Server, tmp_path: Path) -> None:
    where = {"model_id": "mine", "model_name": parley.chat, "api_base": parley.base_url, "api_key_name": "parley"}
    described = json.dumps([where | {"supports_schema": True}])  # JSON is YAML too
    (tmp_path / "extra-openai-models.yaml").write_text(described)
    (tmp_path / "keys.json").write_text(json.dumps({"parley": parley.key}))
    command = [CLIENTS / "agents" / "bin" / "llm", "-m", "mine", "-o", "temperature", "0", "-o", "max_tokens", "60"]
    question = "please cancel my order 73194628"
    streamed = run_command([*command, question], parley, LLM_USER_PATH=str(tmp_path)).stdout.strip()
    assert streamed
    assert (
        run_command([*command, "--no-stream", question], parley, LLM_USER_PATH=str(tmp_path)).stdout.strip() == streamed
    )
    shape = run_command([*command, "--schema", "urgent bool", question], parley, LLM_USER_PATH=str(tmp_path)).stdout
    assert json.loads(shape)["urgent"] in (True, False)


def test_llama_index(parley: Server) -> None:
    if not (CLIENTS / "llama-index" / "bin" / "python").is_file():
        pytest.skip("llama-index takes 290 MB: `make clients-more` installs it and runs this test.")
    met = run("llama-index", "llama_index_chat", parley, parley.chat)
    assert met["answer"].strip()
    assert met["streamed"] == met["answer"]
    assert met["ticket"]["topic"] in ("delivery", "money")


def test_vllms_serving_benchmark(parley: Server, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, HERE / "vllm_bench.py", "--backend", "openai-chat"]
    command += ["--base-url", parley.base_url.removesuffix("/v1"), "--endpoint", "/v1/chat/completions"]
    command += ["--model", parley.chat, "--tokenizer", str(FOLDER / "base"), "--ignore-eos"]
    command += ["--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "24"]
    command += ["--num-prompts", "24", "--max-concurrency", "8"]
    command += ["--save-result", "--result-filename", str(result)]
    run_command(command, parley, HF_HUB_OFFLINE="1")
    found = json.loads(result.read_text())
    assert (found["completed"], found["failed"]) == (24, 0)
    assert found["total_output_tokens"] == 24 * 24
    assert found["median_ttft_ms"] > 0


def test_lm_evaluation_harness(parley: Server, tmp_path: Path) -> None:
    python = CLIENTS / "lm-eval" / "bin" / "python"
    if not python.is_file():
        pytest.skip("lm-evaluation-harness takes 650 MB: `make clients-more` installs it and runs this test.")
    rows = [{"question": f"where is my order {number}?", "answer": "."} for number in (73194628, 48213377, 90215533)]
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "parley_orders",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "orders.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 40, "temperature": 0},
        "metric_list": [{"metric": "exact_match", "regexes_to_ignore": ["[^.]"]}],
    }
    (tmp_path / "orders.yaml").write_text(json.dumps(task))  # JSON is YAML too
    where = f"model={parley.chat},base_url={parley.base_url}/chat/completions,num_concurrent=3"
    command = [python, "-m", "lm_eval", "--model", "local-chat-completions", "--model_args", where]
    command += ["--tasks", "parley_orders", "--include_path", tmp_path, "--apply_chat_template"]
    command += ["--output_path", tmp_path / "results", "--log_samples"]
    run_command(command, parley, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    results = json.loads(next((tmp_path / "results").rglob("results_*.json")).read_text())
    assert results["n-samples"]["parley_orders"]["effective"] == 3
    assert 0 <= results["results"]["parley_orders"]["exact_match,none"] <= 1
    samples = next((tmp_path / "results").rglob("samples_*.jsonl")).read_text().splitlines()
    assert all(json.loads(sample)["resps"][0][0].strip() for sample in samples)


def test_curl(hosted: Server, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is missing: `apt-get install curl`.")
    question = {"model": hosted.chat, "messages": [{"role": "user", "content": "hello there"}]}
    curl = ["curl", "-sS", "-N", f"{hosted.base_url}/chat/completions", "-H", "content-type: application/json"]
    keyed = [*curl, "-H", f"Authorization: Bearer {hosted.key}"]

    whole = json.loads(run_command([*keyed, "-d", json.dumps(question)], hosted).stdout)
    assert whole["choices"][0]["message"]["content"] == "You said: hello there"

    lines = run_command([*keyed, "-d", json.dumps(question | {"stream": True})], hosted).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "You said: hello there"

    status = ["-w", "\n%{http_code}"]
    refused, code = run_command([*curl, *status, "-d", json.dumps(question)], hosted).stdout.rsplit("\n", 1)
    assert (code, json.loads(refused)["error"]["code"]) == ("401", "invalid_api_key")
    # Sent in pieces, and asked for leave first, as curl does with a body of over a megabyte.
    long = json.dumps(question | {"messages": [{"role": "user", "content": "word " * 300_000}]})
    (tmp_path / "long.json").write_text(long)
    sent = ["-H", "transfer-encoding: chunked", "-H", "expect: 100-continue", "--data-binary", f"@{tmp_path}/long.json"]
    answered, code = run_command([*keyed, *status, *sent], hosted).stdout.rsplit("\n", 1)
    assert (code, len(json.loads(answered)["choices"][0]["message"]["content"]) > 1_400_000) == ("200", True)
