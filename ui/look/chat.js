// The Chat tab's conversations: stored in this browser, named after their first message, reopened, renamed and deleted.
(() => {
  if (window.parleyChats) return;
  const KEY = "parley-chats", CURRENT = "parley-chat", MAX_CHATS = 30, MAX_NAME = 60;
  const read = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? []; } catch { return []; } };
  const current = (id) => {
    try {
      if (id === undefined) return sessionStorage.getItem(CURRENT);
      id ? sessionStorage.setItem(CURRENT, id) : sessionStorage.removeItem(CURRENT);
    } catch { /* private window */ }
    return id;
  };
  const write = (chats) => {
    // If the storage is full, the oldest conversations are dropped.
    for (let newest = chats.slice(0, MAX_CHATS); ; newest = newest.slice(0, -1)) {
      try { localStorage.setItem(KEY, JSON.stringify(newest)); break; } catch { if (!newest.length) break; }
    }
    draw();
  };
  const textOf = (content) => typeof content === "string" ? content : (content || []).map((part) => part.text ?? "").join("");
  const plain = (history) => (history || []).map((turn) => ({ role: turn.role, content: textOf(turn.content) }));
  // A turn in the format of Gradio's chatbot in the browser.
  const toGradio = ({ role, content }) => ({ role, content: [{ type: "text", text: content }], metadata: null, options: null });
  const nameOf = (turns) => {
    const first = (turns.find((turn) => turn.role === "user")?.content ?? "").replace(/\s+/g, " ").trim();
    return first.length > MAX_NAME ? `${first.slice(0, MAX_NAME - 1)}…` : first || "Conversation";
  };
  const button = (text, action, id, label) => {
    const element = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    element.dataset.chat = action;
    element.dataset.id = id;
    if (label) element.setAttribute("aria-label", label);
    return element;
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
    note.textContent = chats.length ? "Stored in this browser only." : "Your conversations appear here. They are stored in this browser only.";
    place.replaceChildren(...(chats.length ? [list] : []), note);
  };
  window.parleyChats = {
    // Stores the conversation after each answer.
    store: (history, model, system) => {
      const turns = plain(history);
      if (!turns.some((turn) => turn.role === "user")) return [];
      const chats = read(), id = current() ?? `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`;
      const stored = chats.find((chat) => chat.id === id);
      const name = stored?.named ? stored.name : nameOf(turns);
      current(id);
      write([{ id, name, named: stored?.named ?? false, model, system, turns }, ...chats.filter((chat) => chat.id !== id)]);
      return [];
    },
    // Not on a phone, where the keyboard would cover the page.
    focus: () => { if (matchMedia("(min-width: 761px)").matches) document.querySelector("#chat-text textarea")?.focus({ preventScroll: true }); return []; },
    leave: () => { current(null); draw(); return []; },
    // The current conversation's turns, model and system prompt; the given values if there is none.
    opened: (history, model, system) => {
      const chat = read().find((each) => each.id === current());
      draw();
      return chat ? [chat.turns.map(toGradio), chat.model ?? model, chat.system ?? ""] : [history, model, system];
    },
  };
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-chat]");
    if (!target) return;
    const chats = read(), { chat: action, id } = target.dataset, chat = chats.find((each) => each.id === id);
    if (action === "open") { current(id); document.getElementById("chat-reopen")?.click(); }
    if (action === "rename" && chat) {
      const name = prompt("Name of this conversation", chat.name)?.trim().slice(0, MAX_NAME);
      if (name) { chat.name = name; chat.named = true; write(chats); }
    }
    if (action === "delete") {
      write(chats.filter((each) => each.id !== id));
      if (id === current()) { current(null); document.getElementById("chat-new")?.click(); }
    }
  });
})();
