"""The Data tab: a form for a training file, and below it stored answers.

data.js sends the file to `endpoint.py` and shows the report; stored.js does the same for stored answers.
"""

import gradio as gr

from models.files.file_kinds import TRAINING_SUFFIXES
from ui.look.components import BROWSER_ONLY
from ui.owners.data.stored_layout import build_stored_part

_TAB = f"""
<form id="data-form" class="data-form" autocomplete="off">
  <label id="data-drop" class="drop" for="data-file" tabindex="0">
    <b>Drop a training file here to check it</b>
    <span>Or click to choose one: {", ".join(TRAINING_SUFFIXES)}. The file is checked on the Parley server and
      not stored.</span>
    <input id="data-file" name="file" type="file" accept="{",".join(TRAINING_SUFFIXES)}">
  </label>
  <details><summary>Options</summary><div class="fields">
    <label>Where you will train <select name="provider"><option value="openai">OpenAI (at least 10 examples)</option>
      <option value="together">Together AI</option><option value="local">This server</option></select></label>
    <label>Question column <input name="prompt_column" placeholder="prompt"></label>
    <label>Answer column <input name="response_column" placeholder="response"></label>
    <label>Encoding <input name="encoding" placeholder="UTF-8"></label>
    <label>Count the tokens of <input name="model" placeholder="gpt-4o-mini"></label>
    <label>Plain text: a new conversation begins at <select name="separator"><option value="auto">detected</option>
      <option value="rule">a line of dashes</option><option value="blank-line">an empty line before a question</option>
      <option value="pair">each question</option></select></label>
    <label>System message for every example <input name="system" placeholder="none"></label>
  </div></details>
</form>
<div id="data-line" role="status" aria-live="polite"></div>
<div id="data-report"></div>
"""


def build_data_tab(tab: gr.Tab) -> None:
    """Lays out the tab and wires its event. Call it inside the tab."""
    gr.HTML(_TAB, elem_id="data-tab")
    build_stored_part()
    tab.select(js="() => parleyStored.open()", **BROWSER_ONLY)
