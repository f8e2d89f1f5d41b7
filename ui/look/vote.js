// The raters' page: the pair, the vote, the names, the next pair. Each view belongs to one battle: whatever arrives for
// an earlier view is dropped or kept for later, never shown. It contains no secret and no model's name.
(() => {
  if (window.parleyVote) return;
  window.parleyVote = true;
  const root = location.pathname.match(/^\/vote\/(c\/[a-z0-9-]+\/)?/)[0];
  const CURRENT = `parley-battle ${root}`;
  const KEYS = { "1": "left", a: "left", "2": "right", b: "right", "3": "tie", t: "tie", "4": "both_bad", x: "both_bad" };
  const page = {
    view: 0, screen: "loading", battle: null, queue: [], seen: new Set(), fetching: null, busyView: null, sending: null, campaign: null,
    texts: {}, progress: {}, link: null, revealed: [], undoable: false,
  };
  const $ = (id) => document.getElementById(id);
  const t = (key, values = {}) => (page.texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
  const element = (tag, text, attributes = {}) => {
    const made = Object.assign(document.createElement(tag), attributes);
    if (text) made.append(text);
    return made;
  };

  class Refusal extends Error {
    constructor(code, message) { super(message); this.code = code; }
  }
  const call = async (action, body) => {
    let response, data;
    try {
      response = await fetch(`${root}api/${action}`, body === undefined ? {} : {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
      });
      data = await response.json();
    } catch { throw new Refusal("offline", t("error_offline")); }
    if (!response.ok) throw new Refusal(data.error?.code ?? "other", data.error?.message ?? t("error_other"));
    return data;
  };
  let state = call("state");
  state.catch(() => {});

  const line = (text, tone = "warn") => {
    const place = $("vote-line");
    place.replaceChildren();
    if (!text) return;
    const note = element("div", "", { className: `notice ${tone}` });
    note.append(element("i"), element("span", text));
    place.append(note);
  };
  const screen = (name) => {
    page.screen = name;
    $("rater").dataset.screen = name;
    for (const part of ["start", "pair", "stopped", "end"]) $(`vote-${part}`).hidden = part !== name;
  };
  const focus = (place) => place.focus({ preventScroll: true });
  const showCount = () => {
    const { votes, wanted } = page.progress;
    $("vote-count").textContent = wanted ? t("progress", { votes, wanted })
      : votes === 0 ? t("votes_none") : votes === 1 ? t("votes_one") : t("votes_many", { votes });
  };
  const showQuestion = (messages) => {
    const place = $("vote-question");
    place.replaceChildren();
    for (const message of messages) {
      place.append(element("small", t(message.role === "user" ? "question" : "earlier_answer")), element("p", message.text));
    }
  };
  const showHead = (side, model = "", chosen = false) => {
    const head = $(`vote-head-${side}`);
    head.replaceChildren(element("b", side.toUpperCase(), { ariaHidden: "true" }), element("span", t(`answer_${side}`), { className: "heard" }));
    if (model) head.append(element("span", model, { className: "who" }));
    if (chosen) head.append(element("span", t("your_choice"), { className: "won" }));
  };
  const waiting = () => {
    const place = element("div", "", { className: "pending" });
    for (let i = 0; i < 3; i++) place.append(element("span"));
    place.append(element("em", t("preparing")));
    return place;
  };
  // Takes everything of the last pair off the page, in one step with what starts the next view.
  const clear = (messages) => {
    page.battle = null;
    page.view += 1;
    $("vote-ballot").inert = false;
    sessionStorage.removeItem(CURRENT);
    screen("pair");
    line("");
    showQuestion(messages);
    for (const side of ["a", "b"]) {
      showHead(side);
      $(`vote-answer-${side}`).replaceChildren(waiting());
    }
    for (const part of ["vote-ballot", "vote-after", "vote-criteria", "vote-skip"]) $(part).hidden = true;
    for (const fold of ["vote-skip", "vote-comment"]) $(fold).open = false;
    $("vote-comment").hidden = true;
    $("vote-comment").querySelector("textarea").value = "";
    for (const input of $("vote-criteria").querySelectorAll("input")) input.checked = false;
    $("vote-undo").hidden = !page.undoable;
    return page.view;
  };
  const show = (battle, { takeFocus = true } = {}) => {
    clear(battle.messages);
    page.battle = battle;
    page.seen.add(battle.id);
    sessionStorage.setItem(CURRENT, battle.id);
    $("vote-answer-a").innerHTML = battle.left; // HTML made by the server, in which nothing can be loaded or followed
    $("vote-answer-b").innerHTML = battle.right;
    for (const part of ["vote-ballot", "vote-skip", "vote-comment"]) $(part).hidden = false;
    $("vote-criteria").hidden = page.campaign.criteria.length === 0;
    document.querySelector(".sides").scrollLeft = 0;
    if (takeFocus) { window.scrollTo({ top: 0 }); focus($("vote-question")); }
    prefetch();
  };
  const fail = (error) => {
    if (["finished", "nothing_left", "closed"].includes(error.code)) return end(error);
    for (const side of ["a", "b"]) $(`vote-answer-${side}`).replaceChildren();
    for (const part of ["vote-ballot", "vote-criteria", "vote-skip"]) $(part).hidden = true;
    line(error.message, "warn");
    $("vote-reveal").replaceChildren();
    $("vote-next").querySelector("span").textContent = t("try_again");
    $("vote-after").hidden = ["invited_only", "no_cookie", "not_open"].includes(error.code);
    if (!$("vote-after").hidden && document.activeElement === document.body) focus($("vote-next"));
  };

  // One request for a pair at a time; what arrives waits in the queue until it is wanted.
  const fetchPair = () => page.fetching ??= call("next", {}).then(({ battle }) => {
    if (!page.seen.has(battle.id) && !page.queue.some((each) => each.id === battle.id)) page.queue.push(battle);
  }).finally(() => { page.fetching = null; });
  const prefetch = () => { if (page.queue.length === 0) fetchPair().catch(() => {}); };
  const advance = async (options) => {
    const view = clear([]);
    try {
      for (let tries = 0; page.queue.length === 0 && tries < 2; tries++) await fetchPair();
    } catch (error) {
      if (view === page.view) fail(error);
      return;
    }
    if (view !== page.view) return;
    if (page.queue.length) show(page.queue.shift(), options);
    else fail(new Refusal("other", t("error_other")));
  };
  const ask = async () => {
    const box = $("vote-own").querySelector("textarea");
    const prompt = box.value.trim();
    if (!prompt) return line(t("own_empty"));
    box.value = "";
    $("vote-own").open = false;
    const view = clear([{ role: "user", text: prompt }]);
    focus($("vote-question"));
    window.scrollTo({ top: 0 });
    try {
      const { battle } = await call("next", { prompt });
      if (view === page.view) show(battle, { takeFocus: false });
      else page.queue.push(battle);
    } catch (error) { if (view === page.view) fail(error); }
  };

  const criteria = () => Object.fromEntries(
    [...$("vote-criteria").querySelectorAll("input:checked")].map((input) => [page.campaign.criteria[input.dataset.at], input.value]));
  // A view sends one change at a time. A change in a new view waits for the last view's, so that none is lost.
  const busy = () => page.busyView === page.view;
  const send = async (action, body) => {
    const view = page.view, earlier = page.sending;
    page.busyView = view;
    $("vote-ballot").inert = true;
    page.sending = (async () => {
      try { await earlier; } catch { /* its own view handles it */ }
      return call(action, body);
    })();
    try { return await page.sending; } finally {
      if (page.busyView === view) page.busyView = null;
      if (page.view === view) $("vote-ballot").inert = false;
    }
  };
  const goOn = async (text, takeBack = false) => {
    await advance();
    if (page.screen !== "pair" || $("vote-line").textContent) return;
    line(text, "good");
    if (takeBack) $("vote-line").firstChild.append(button("undo", undo, "small"));
  };
  const vote = async (choice, swiped = false) => {
    if (!page.battle || busy() || $("vote-ballot").hidden) return;
    const battle = page.battle, view = page.view;
    try {
      const comment = $("vote-comment").querySelector("textarea").value;
      const stored = await send("vote", { battle: battle.id, choice, criteria: criteria(), comment });
      page.progress.votes = stored.votes;
      page.undoable = stored.left_model === null;
      showCount();
      if (view !== page.view) return;
      if (stored.left_model !== null) return reveal(stored);
      await goOn(t(swiped ? `chose_${choice}` : "saved"), swiped);
    } catch (error) {
      if (view !== page.view) return;
      if (["voted", "skipped", "gone"].includes(error.code)) return advance();
      if (error.code === "closed") return end(error);
      line(error.message, "bad");
    }
  };
  const reveal = (stored) => {
    page.battle = null;
    sessionStorage.removeItem(CURRENT);
    showHead("a", stored.left_model, stored.choice === "left");
    showHead("b", stored.right_model, stored.choice === "right");
    const place = $("vote-reveal");
    place.replaceChildren(element("span", t(`chose_${stored.choice}`)));
    for (const [side, model] of [["a", stored.left_model], ["b", stored.right_model]]) {
      const said = element("span", `${t(`${side}_was`)} `);
      said.append(element("b", model));
      place.append(" ", said);
    }
    for (const part of ["vote-ballot", "vote-skip", "vote-comment", "vote-undo"]) $(part).hidden = true;
    $("vote-next").querySelector("span").textContent = t("next");
    $("vote-after").hidden = false;
    focus($("vote-next"));
  };
  const skip = async (reason) => {
    if (!page.battle || busy()) return;
    const battle = page.battle, view = page.view;
    try {
      await send("skip", { battle: battle.id, reason, comment: $("vote-comment").querySelector("textarea").value });
      if (view === page.view) await goOn(t("skipped"));
    } catch (error) {
      if (view !== page.view) return;
      if (["voted", "gone"].includes(error.code)) return advance();
      line(error.message, "bad");
    }
  };
  const undo = async () => {
    if (busy()) return;
    try {
      const { battle, votes } = await send("undo", {});
      page.undoable = false;
      page.progress.votes = votes;
      showCount();
      if (page.battle) page.queue.unshift(page.battle);
      show(battle);
      line(t("undone"), "good");
    } catch (error) {
      page.undoable = false;
      $("vote-undo").hidden = true;
      line(error.message, "warn");
    }
  };

  const paragraphs = (text) => text.split(/\n\s*\n/).map((each) => element("p", each.trim())).filter((p) => p.textContent);
  const button = (key, action, className = "go") => {
    const made = element("button", t(key), { type: "button", className });
    made.addEventListener("click", action);
    return made;
  };
  const stop = () => {
    page.view += 1; // what is on its way is kept for later
    line("");
    const [title, place] = $("vote-stopped").children;
    title.textContent = t("stopped");
    place.replaceChildren(element("p", t("stopped_text")));
    if (page.link) {
      const address = location.origin + page.link;
      place.append(element("p", t("elsewhere")), element("code", address), button("copy", () => copy(address), "small"));
    }
    place.append(button("resume", resume));
    screen("stopped");
    focus(title);
  };
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); line(t("copied"), "good"); } catch { line(text, "good"); }
  };
  const resume = () => {
    line("");
    if (!page.battle) return advance();
    show(page.battle);
  };
  const end = (error) => {
    page.battle = null;
    page.view += 1;
    const finished = error.code === "finished" || error.code === "nothing_left";
    const [title, place] = $("vote-end").children;
    title.textContent = t("thanks");
    place.replaceChildren(...paragraphs(page.campaign.thanks || (finished ? t("thanks_text") : error.message)));
    if (page.campaign.thanks && error.code === "closed") place.append(element("p", error.message));
    if (finished && page.campaign.reveal === "at_end") place.append(element("p", t("reveal_at_end")));
    if (finished && page.undoable) place.append(button("undo", undo, "small"));
    if (page.revealed.length) place.append(votesTable());
    line("");
    screen("end");
    focus(title);
  };
  const votesTable = () => {
    const table = element("table", "", { className: "board" });
    table.append(element("caption", t("your_votes")));
    const row = table.createTHead().insertRow();
    for (const key of ["question", "answer_a", "answer_b", "your_choice"]) row.append(element("th", t(key), { scope: "col" }));
    const body = table.createTBody();
    for (const vote of page.revealed) {
      const cells = body.insertRow();
      for (const text of [vote.question, vote.left_model, vote.right_model, t(`chose_${vote.choice}`)]) cells.insertCell().append(text);
    }
    const scroll = element("div", "", { className: "scroll" });
    scroll.append(table);
    return scroll;
  };

  const translate = () => {
    document.documentElement.lang = page.campaign.language;
    for (const place of $("rater").querySelectorAll("[data-text]")) place.textContent = t(place.dataset.text);
    for (const box of $("rater").querySelectorAll("textarea")) {
      box.setAttribute("aria-label", t(box.dataset.label));
      box.placeholder = t(box.dataset.hint ?? "");
    }
    const { title, question, own_questions: own, criteria, reveal: when } = page.campaign;
    // A vote by a swipe may be a slip, so it must be possible to take it back.
    $("rater").dataset.swipe = when === "after_vote" ? "off" : "on";
    document.title = title;
    $("vote-title").textContent = title;
    $("vote-lead").textContent = question;
    $("vote-ballot").setAttribute("aria-label", question);
    $("vote-own").hidden = !own;
    const place = $("vote-criteria");
    place.replaceChildren(...criteria.length ? [element("h2", t("criteria"))] : []);
    criteria.forEach((name, at) => {
      const group = element("fieldset");
      group.append(element("legend", name));
      for (const [value, text] of [["left", "A"], ["tie", t("criterion_tie")], ["right", "B"]]) {
        const label = element("label");
        label.append(element("input", "", { type: "radio", name: `criterion-${at}`, value }), element("span", text));
        label.firstChild.dataset.at = at;
        group.append(label);
      }
      place.append(group);
    });
    showCount();
  };
  const begin = async () => {
    let loaded;
    try { loaded = await state; } catch (error) {
      screen("pair");
      $("vote-title").textContent = "Parley";
      $("vote-pair").hidden = true;
      return line(error.message || "The page cannot be reached. Reload it.", "warn");
    }
    Object.assign(page, { campaign: loaded.campaign, texts: loaded.texts, progress: loaded.progress, link: loaded.link, revealed: loaded.revealed });
    translate();
    if (loaded.campaign.state !== "open") {
      if (loaded.campaign.state === "closed") return end(new Refusal("closed", t("error_closed")));
      $("vote-count").textContent = "";
      return line(t("error_not_open"), "warn");
    }
    const { votes, wanted } = page.progress;
    const current = sessionStorage.getItem(CURRENT);
    page.queue = [...loaded.battles].sort((a, b) => (b.id === current) - (a.id === current));
    // The Compare tab links here with the question that its models answered.
    const asked = new URLSearchParams(location.hash.slice(1)).get("ask");
    if (asked && loaded.campaign.own_questions) {
      history.replaceState(null, "", location.pathname);
      $("vote-own").querySelector("textarea").value = asked;
      return ask();
    }
    const fresh = votes === 0 && !current;
    if (fresh && (page.campaign.welcome || root !== "/vote/")) {
      $("vote-welcome").replaceChildren(...paragraphs(page.campaign.welcome));
      $("vote-wanted").textContent = wanted ? t("about_count", { wanted }) : "";
      screen("start");
      return prefetch();
    }
    advance({ takeFocus: false });
  };

  const typing = (target) => target.isContentEditable || /^(textarea|select)$/i.test(target.tagName)
    || (target.tagName === "INPUT" && target.type !== "radio");
  // With a text box on the page a letter may be meant for it, even while it has no focus.
  const boxOpen = () => $("vote-own").open || $("vote-comment").open;
  document.addEventListener("keydown", (event) => {
    if (!$("rater") || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const own = event.target.closest?.("#vote-own textarea");
    if (own && event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); return ask(); }
    if (page.screen !== "pair" || typing(event.target) || boxOpen()) return;
    const key = event.key.toLowerCase();
    if (KEYS[key]) { event.preventDefault(); return vote(KEYS[key]); }
    if (key === "arrowright" && event.target.type !== "radio" && !$("vote-after").hidden) { event.preventDefault(); advance(); }
  });
  document.addEventListener("parley-swipe", (event) => { if (page.screen === "pair") vote(event.detail, true); });
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("#rater button");
    if (!target) return;
    if (target.dataset.choice) vote(target.dataset.choice);
    else if (target.dataset.reason) skip(target.dataset.reason);
    else if (target.id === "vote-next") advance();
    else if (target.id === "vote-begin") advance();
    else if (target.id === "vote-undo") undo();
    else if (target.id === "vote-stop") stop();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.closest("#vote-own")) return;
    event.preventDefault();
    ask();
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.open && event.target.matches("#rater details")) focus(event.target.querySelector("textarea, button"));
  }, true);

  // Gradio makes the page after this script has started.
  const watch = new MutationObserver(() => { if ($("rater")) { watch.disconnect(); begin(); } });
  const start = () => $("rater") ? begin() : watch.observe(document.documentElement, { childList: true, subtree: true });
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
