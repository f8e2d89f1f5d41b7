// The Chat tab's conversations: kept in this browser, named after their first message, reopened, renamed and deleted.
(() => {
  if (window.parleyChats) return;
  const KEY = "parley-chats", CURRENT = "parley-chat", MOST = 30, LONGEST_NAME = 60;
  const read = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? []; } catch { return []; } };
  const current = (id) => {
    try {
      if (id === undefined) return sessionStorage.getItem(CURRENT);
      id ? sessionStorage.setItem(CURRENT, id) : sessionStorage.removeItem(CURRENT);
    } catch { /* private window */ }
    return id;
  };
  const write = (chats) => {
    // A full storage drops the oldest conversations.
    for (let kept = chats.slice(0, MOST); ; kept = kept.slice(0, -1)) {
      try { localStorage.setItem(KEY, JSON.stringify(kept)); break; } catch { if (!kept.length) break; }
    }
    draw();
  };
  const textOf = (content) => typeof content === "string" ? content : (content || []).map((part) => part.text ?? "").join("");
  const plain = (history) => (history || []).map((turn) => ({ role: turn.role, content: textOf(turn.content) }));
  // As Gradio's chatbot holds its turns in the browser.
  const shown = ({ role, content }) => ({ role, content: [{ type: "text", text: content }], metadata: null, options: null });
  const nameOf = (turns) => {
    const first = (turns.find((turn) => turn.role === "user")?.content ?? "").replace(/\s+/g, " ").trim();
    return first.length > LONGEST_NAME ? `${first.slice(0, LONGEST_NAME - 1)}…` : first || "Conversation";
  };
  const button = (text, action, id, label) => {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    made.dataset.chat = action;
    made.dataset.id = id;
    if (label) made.setAttribute("aria-label", label);
    return made;
  };
  const draw = () => {
    const place = document.getElementById("chat-saved");
    if (!place) return;
    const chats = read(), list = document.createElement("ul");
    for (const chat of chats) {
      const entry = document.createElement("li"), open = button(chat.name, "open", chat.id);
      if (chat.id === current()) open.setAttribute("aria-current", "true");
      open.title = `${chat.name} · ${chat.model ?? ""}`;
      entry.append(open, button("✎", "rename", chat.id, `Rename ${chat.name}`), button("×", "delete", chat.id, `Delete ${chat.name}`));
      list.append(entry);
    }
    const note = document.createElement("p");
    note.className = "about";
    note.textContent = chats.length ? "Kept in this browser only." : "Your conversations appear here. They are kept in this browser only.";
    place.replaceChildren(...(chats.length ? [list] : []), note);
  };
  window.parleyChats = {
    // Stores the conversation after each answer.
    store: (history, model, system) => {
      const turns = plain(history);
      if (!turns.some((turn) => turn.role === "user")) return [];
      const chats = read(), id = current() ?? `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`;
      const known = chats.find((chat) => chat.id === id);
      const name = known?.named ? known.name : nameOf(turns);
      current(id);
      write([{ id, name, named: known?.named ?? false, model, system, turns }, ...chats.filter((chat) => chat.id !== id)]);
      return [];
    },
    // Not on a phone, where the keyboard would cover the page.
    focus: () => { if (matchMedia("(min-width: 761px)").matches) document.querySelector("#chat-text textarea")?.focus({ preventScroll: true }); return []; },
    leave: () => { current(null); draw(); return []; },
    // The current conversation's turns, model and system prompt; the given values if there is none.
    opened: (history, model, system) => {
      const chat = read().find((each) => each.id === current());
      draw();
      return chat ? [chat.turns.map(shown), chat.model ?? model, chat.system ?? ""] : [history, model, system];
    },
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-chat]");
    if (!target) return;
    const chats = read(), { chat: action, id } = target.dataset, chat = chats.find((each) => each.id === id);
    if (action === "open") { current(id); document.getElementById("chat-reopen")?.click(); }
    if (action === "rename" && chat) {
      const name = prompt("Name of this conversation", chat.name)?.trim().slice(0, LONGEST_NAME);
      if (name) { chat.name = name; chat.named = true; write(chats); }
    }
    if (action === "delete") {
      write(chats.filter((each) => each.id !== id));
      if (id === current()) { current(null); document.getElementById("chat-new")?.click(); }
    }
  });
})();
