// Runs in the browser on all three apps: light and dark mode, downloads, links. It contains no secret.
(() => {
  if (window.parley) return;
  const KEY = "parley-shade";
  const stored = (key = KEY) => { try { return localStorage.getItem(key); } catch { return null; } };
  const system = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const applyShade = () => {
    const chosen = stored();
    const dark = chosen ? chosen === "dark" : system();
    document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
  };
  const flip = () => {
    const next = document.body.classList.contains("dark") ? "light" : "dark";
    // Choosing the system's own shade means to follow the system again.
    try { (next === "dark") === system() ? localStorage.removeItem(KEY) : localStorage.setItem(KEY, next); } catch { /* private window */ }
    document.body.classList.toggle("dark", next === "dark");
    document.documentElement.style.colorScheme = next;
  };
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const textOf = (content) => typeof content === "string" ? content
    : (content || []).map((part) => part.text ?? "").join("");
  const plain = (history) => (history || []).map((m) => ({ role: m.role, content: textOf(m.content) }));
  const toast = (text) => {
    const note = document.createElement("div");
    note.className = "parley-toast";
    note.textContent = text;
    document.body.append(note);
    setTimeout(() => note.remove(), 2200);
  };
  const showNotice = (line, text, tone) => {
    line.replaceChildren();
    if (!text) return;
    const note = document.createElement("div"), body = document.createElement("span");
    note.className = `notice ${tone}`;
    body.textContent = text;
    note.append(document.createElement("i"), body);
    line.append(note);
  };
  const copy = async (text, message) => {
    try { await navigator.clipboard.writeText(text); }
    catch {
      // Plain http outside loopback has no clipboard API.
      const box = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(box); box.select(); document.execCommand("copy"); box.remove();
    }
    toast(message);
  };
  // When the owner's cookie is no longer valid (the first key was created, a key was revoked, the cookie expired),
  // Gradio would show "Unexpected token" at every click and every tick of a timer. This shows one message instead, and
  // keeps everything that is on the page.
  const originalFetch = window.fetch.bind(window);
  window.fetch = async (...args) => {
    const response = await originalFetch(...args);
    const path = response.url ? new URL(response.url) : location;
    if (response.status !== 401 || path.origin !== location.origin || !path.pathname.startsWith("/gradio_api/")) return response;
    if (!document.querySelector("#parley-signed-out")) {
      const note = Object.assign(document.createElement("div"), { id: "parley-signed-out", className: "parley-toast" });
      note.setAttribute("role", "alert");
      note.append("You have been signed out. ", Object.assign(document.createElement("a"), { href: "/login", textContent: "Sign in" }));
      document.body.append(note);
    }
    return new Promise(() => {});
  };
  window.parley = {
    showNotice,
    saveMarkdown: (history, model) => {
      const lines = plain(history).map((m) => `**${m.role === "user" ? "You" : model || "Model"}**\n\n${m.content}\n`);
      save("conversation.md", "text/markdown", `# Conversation with ${model || "a model"}\n\n${lines.join("\n")}`);
      return [];
    },
    saveJson: (history, model, system) => {
      const messages = plain(history);
      if (system) messages.unshift({ role: "system", content: system });
      save("conversation.json", "application/json", JSON.stringify({ model, messages }, null, 2));
      return [];
    },
    copyLink: (model) => { if (model) copy(`${location.origin}/bot/${encodeURI(model)}`, "Link copied"); return []; },
    copyVoteLink: () => copy(`${location.origin}/vote/`, "Link copied"),
    openTab: (name) => { openTab(name); return []; },
    title: (text) => { if (text) document.title = text; },
  };
  const STEPS = "parley-steps-hidden";
  const hideSteps = () => document.documentElement.classList.toggle("no-steps", stored(STEPS) === "1");
  // A tab that does not fit is in the overflow menu; its hidden button can still be clicked.
  const openTab = (name) => [...document.querySelectorAll(".tabs-bar > .tab-wrapper button")]
    .findLast((button) => button.textContent.trim() === name && !button.closest("[aria-hidden=true]"))?.click();
  const ask = (id, question) => {
    const box = document.querySelector(`#${id} textarea`);
    if (!box) return;
    box.value = question;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => document.querySelector(`#${id} .submit-button`)?.click(), 50);  // Svelte has read the text by then
  };
  // Labels Gradio's icon buttons, which have no name, and removes a bot page's outline once Gradio has built the page.
  const LABELS = { ".submit-button": "Send", ".stop-button": "Stop" };
  const label = () => {
    if (document.querySelector(".solo")) document.querySelector(".skeleton")?.remove();
    for (const [which, name] of Object.entries(LABELS)) {
      for (const button of document.querySelectorAll(`${which}:not([aria-label])`)) button.setAttribute("aria-label", name);
    }
  };
  // Gives a report's frame the height of its text and the page's light or dark mode. It runs no script of its own.
  const fit = (frame) => {
    const root = frame.contentDocument?.documentElement;
    if (!root?.querySelector("h1")) return;
    root.dataset.shade = document.body.classList.contains("dark") ? "dark" : "light";
    frame.style.height = `${root.offsetHeight + 8}px`;
  };
  const frames = () => document.querySelectorAll("iframe.report");
  document.addEventListener("load", (event) => {
    const frame = event.target;
    if (!frame.matches?.("iframe.report")) return;
    fit(frame);
    new ResizeObserver(() => fit(frame)).observe(frame.contentDocument.body);
  }, true);
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-parley]");
    if (!target) return;
    if (target.dataset.parley === "shade") flip();
    if (target.dataset.parley === "restart") document.querySelector("#bot-restart")?.click();
    if (target.dataset.parley === "copy") copy(target.previousElementSibling.textContent, "Copied");
    if (target.dataset.parley === "ask") ask(target.dataset.box, target.textContent);
    if (target.dataset.parley === "tab") openTab(target.dataset.tab);
    if (target.dataset.parley === "hide-steps") {
      try { localStorage.setItem(STEPS, "1"); } catch { /* private window */ }
      document.documentElement.classList.add("no-steps");
    }
    if (target.dataset.parley === "vote-link") copy(`${location.origin}/vote/`, "Link copied");
  });
  const begin = () => {
    applyShade();
    hideSteps();
    new MutationObserver(label).observe(document.body, { childList: true, subtree: true });
    // Gradio sets its own class once it has loaded; the stored choice overrides it.
    new MutationObserver(() => {
      const chosen = stored();
      if (chosen && document.body.classList.contains("dark") !== (chosen === "dark")) applyShade();
      frames().forEach(fit);
    }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyShade);
  };
  document.body ? begin() : document.addEventListener("DOMContentLoaded", begin);
})();
