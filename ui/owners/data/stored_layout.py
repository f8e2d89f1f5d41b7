"""The part of the Data tab for stored answers: filters, options and buttons. stored.js sends them and shows answers."""

import gradio as gr

from ui.look.markup import empty_state, heading

_EMPTY = empty_state(
    "No answers are stored yet",
    "Send requests with <code>store: true</code>, or rate answers in Chat or on a bot’s page. Then you can turn them "
    "into training data here.",
)
_LEAD = (
    f"{heading('From stored answers')}<p class='lead'>Turn your models’ answers, and the feedback on them, into "
    f"training data or into questions for a campaign.</p><div id='stored-empty' hidden>{_EMPTY}</div>"
)
_FORM = """
<form id="stored-form" class="data-form" autocomplete="off" hidden>
  <div class="fields">
    <label>Model <select name="model"><option value="">all models</option></select></label>
    <label>From <input name="since" type="date"></label>
    <label>Before <input name="until" type="date"></label>
    <label>Contains the text <input name="text" placeholder="refund" maxlength="1000"></label>
    <label>Metadata <input name="where" placeholder="desk=orders, tier=gold" maxlength="1000"></label>
    <label id="stored-keys" hidden>Stored by the key
      <select name="key"><option value="">all keys</option></select></label>
  </div>
  <div class="fields">
    <label>Name of the feedback <input name="feedback_name" list="stored-names" placeholder="any" maxlength="64">
      <datalist id="stored-names"></datalist></label>
    <label>Its mean, at least <input name="feedback_least" inputmode="decimal" placeholder="1" maxlength="20"></label>
    <label>Feedback from <select name="feedback_from"><option value="">everyone</option>
      <option value="human">people</option><option value="model">models</option>
      <option value="code">programs</option></select></label>
    <label class="broad">Result <select name="kind"><option value="conversations">conversations to train on (SFT)</option>
      <option value="pairs">preference pairs from corrections (DPO)</option>
      <option value="prompts">questions for a campaign</option></select></label>
  </div>
  <div class="ticks">
    <label><input name="corrected" type="checkbox"> Only with a correction</label>
    <label><input name="mask" type="checkbox" checked> Mask e-mail addresses, phone and card numbers and keys</label>
    <label><input name="near_duplicates" type="checkbox"> Leave out near duplicates</label>
  </div>
  <div class="actions">
    <button type="submit" class="restart">Show the answers</button>
    <button type="button" class="restart primary" data-parley="stored-save">Store as a file</button>
    <span class="about" id="stored-total"></span>
  </div>
</form>
<div id="stored-line" role="status" aria-live="polite"></div>
<div id="stored-counts"></div>
<div id="stored-table"></div>
<div id="stored-pages" class="pages" hidden>
  <button type="button" class="restart" data-parley="stored-before">Previous</button>
  <span class="about"></span>
  <button type="button" class="restart" data-parley="stored-after">Next</button>
</div>
<div id="stored-answer"></div>
"""


def build_stored_part() -> None:
    """Lays out the part. Call it inside the tab."""
    gr.HTML(_LEAD + _FORM, elem_id="stored-part")
