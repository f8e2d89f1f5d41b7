// Stored answers on the Data tab: sends the form, shows progress, a page of answers, one in full, and stored files.
(() => {
  if (window.parleyStored) return;
  const by = (id) => document.getElementById(id);
  let turn = 0, running = null, selection = null, page = 0, pages = 0;
  const notice = (text, tone) => window.parley.showNotice(by("stored-line"), text, tone);
  const answer = async (path, sent, options = {}) => {
    try {
      const body = sent === undefined ? {} : { method: "POST", body: JSON.stringify(sent) };
      const response = await fetch(`/data/stored${path}`, { ...body, ...options });
      if (/json/.test(response.headers.get("content-type"))) return response;
      if (response.status !== 401) throw new TypeError(response.statusText);
      return new Response(JSON.stringify({ error: { message: "You have been signed out. Reload the page to sign in." } }));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return new Response(JSON.stringify({ error: { message: "The server did not respond. Try again." } }));
    }
  };
  // One line of JSON after another; `take` gets each.
  const lines = async (response, take) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      const parts = (rest + (value ?? "")).split("\n");
      rest = done ? "" : parts.pop();
      for (const part of parts) if (part.trim()) take(JSON.parse(part));
      if (done) return;
    }
  };
  const form = () => {
    const sent = {};
    for (const field of by("stored-form").elements) {
      if (field.name) sent[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    return sent;
  };
  const count = (number) => number.toLocaleString("en");
  const showPages = (size, matches) => {
    pages = Math.ceil(matches / size);
    by("stored-pages").hidden = pages < 2;
    turnPage(0);
  };
  const turnPage = (to) => {
    page = to;
    const [before, after] = by("stored-pages").querySelectorAll("button");
    before.disabled = page <= 0;
    after.disabled = page >= pages - 1;
    by("stored-pages").querySelector("span").textContent = `Page ${count(page + 1)} of ${count(pages)}`;
  };
  const wait = (part, what) => notice(part.total ? `${what}: ${count(part.read)} of ${count(part.total)}` : `${what}…`, "wait");
  const work = async (path, what, take) => {
    const mine = ++turn;
    running?.abort();
    running = new AbortController();
    let failed = false, ended = false;
    wait({}, what);
    try {
      await lines(await answer(path, form(), { signal: running.signal }), (part) => {
        if (mine !== turn) return;
        if (part.error) { failed = true; notice(part.error.message, "bad"); }
        else if (part.total !== undefined) wait(part, what);
        else ended = take(part) || ended;
      });
      if (mine === turn && !failed && !ended) notice("The server stopped before the end. Try again.", "bad");
    } catch (error) {
      if (mine === turn) notice("The connection was lost. Try again.", "bad");
    }
  };
  const show = () => {
    for (const id of ["stored-counts", "stored-table", "stored-answer"]) by(id).replaceChildren();
    by("stored-pages").hidden = true;
    selection = null;
    return work("/show", "Reading stored answers", (part) => {
      by("stored-table").innerHTML = part.table;  // from our own server, with everything from the answers escaped
      if (!part.selection) return false;
      selection = part.selection;
      by("stored-counts").innerHTML = part.counts;
      notice("", "");
      showPages(part.page_size, part.matches);
      return true;
    });
  };
  const save = async (button) => {
    button.disabled = true;
    await work("/save", "Storing", (part) => {
      by("stored-line").innerHTML = part.saved;  // escaped as above
      return true;
    });
    button.disabled = false;
  };
  const small = async (path, sent, take) => {
    const mine = turn, result = await (await answer(path, { selection, ...sent })).json();
    if (mine !== turn) return;
    if (result.error) notice(result.error.message, "bad"); else take(result);
  };
  const open = async () => {
    if (!by("stored-form")) { setTimeout(open, 50); return; }  // Gradio builds the tab when it is opened
    const known = await (await answer("")).json();
    if (known.error) { notice(known.error.message, "bad"); return; }
    by("stored-empty").hidden = known.total > 0;
    by("stored-form").hidden = known.total === 0;
    by("stored-total").textContent = `${count(known.total)} stored`;
    const fill = (list, options) => {
      const chosen = list.value;
      list.replaceChildren(...(list.options?.[0] ? [list.options[0]] : []), ...options.map(([value, label]) => new Option(label, value)));
      if (list.tagName === "SELECT") list.value = options.some(([value]) => value === chosen) ? chosen : "";
    };
    fill(by("stored-form").elements.model, known.models.map((name) => [name, name]));
    fill(by("stored-form").elements.key, known.keys.map((key) => [key.id, key.name]));
    by("stored-names").replaceChildren(...known.names.map((name) => new Option(name, name)));
    by("stored-keys").hidden = !known.keys.length;
  };
  // Opens a tab and clicks a hidden button of it, once Gradio has built the tab; then scrolls to what the click opens.
  const goTo = (tab, id, shown) => {
    parley.openTab(tab);
    const press = () => {
      if (!by(id)) { setTimeout(press, 50); return; }
      by(id).click();
      let tries = 100;
      const scroll = () => {
        if (by(shown)?.offsetParent) by(shown).scrollIntoView({ block: "center", behavior: "smooth" });
        else if (tries-- > 0) setTimeout(scroll, 100);
      };
      scroll();
    };
    press();
  };
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "stored-form") return;
    event.preventDefault();
    show();
  });
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-parley]"), action = target?.dataset.parley;
    if (action === "stored-save" && !target.disabled) save(target);
    if (action === "stored-train") goTo("Train", "train-uploaded", "train-data");
    if (action === "stored-campaign") goTo("Campaigns", "campaign-stored", "campaign-source");
    if (action === "stored-row") {
      small("/row", { id: target.dataset.id }, (result) => {
        by("stored-answer").innerHTML = result.html;  // escaped as above
        by("stored-answer").scrollIntoView({ block: "start", behavior: "smooth" });
      });
    }
    if (action === "stored-before" || action === "stored-after") {
      const to = page + (action === "stored-after" ? 1 : -1);
      small("/page", { page: to }, (result) => { by("stored-table").innerHTML = result.table; turnPage(to); });
    }
  });
  window.parleyStored = { open: () => { open(); return []; } };
})();
