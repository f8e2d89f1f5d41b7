// The Data tab in the browser: sends a dropped or chosen file, and shows, sorts and saves its report.
(() => {
  if (window.parleyData) return;
  window.parleyData = true;
  const by = (id) => document.getElementById(id);
  let report = null, checked = null, turn = 0;
  const showNotice = (text, tone) => window.parley.showNotice(by("data-line"), text, tone);
  const check = async (file) => {
    const form = new FormData(by("data-form")), mine = ++turn;
    for (const [name, value] of [...form]) if (!value || name === "file") form.delete(name);
    form.append("file", file);
    showNotice(`Checking ${file.name}…`, "wait");
    by("data-report").replaceChildren();
    report = null;
    let answer;
    try {
      const sent = await fetch("/data/check", { method: "POST", body: form });
      answer = await sent.json();
    } catch { answer = { error: { message: "The server did not respond. Try again." } }; }
    if (mine !== turn) return;  // another file was dropped meanwhile
    if (answer.error) { showNotice(answer.error.message, "bad"); return; }
    showNotice("", "");
    report = answer.report;
    checked = file;
    by("data-report").innerHTML = answer.html;  // from our own server, with everything from the data escaped
  };
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)], { type: "application/json" }));
    link.download = `${report.source.replace(/\.[^.]*$/, "")}.report.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const sort = (button) => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const place = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
    const rows = [...body.rows].sort((a, b) => value(a).localeCompare(value(b), "en", { numeric: true }));
    body.append(...(down ? rows.reverse() : rows));
  };
  const over = (event) => event.target.closest?.("#data-drop");
  document.addEventListener("dragover", (event) => { if (over(event)) { event.preventDefault(); over(event).classList.add("over"); } });
  document.addEventListener("dragleave", (event) => over(event)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    over(event).classList.remove("over");
    if (event.dataTransfer.files[0]) check(event.dataTransfer.files[0]);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "data-file" && event.target.files[0]) { check(event.target.files[0]); event.target.value = ""; }
  });
  document.addEventListener("submit", (event) => { if (event.target.id === "data-form") event.preventDefault(); });
  document.addEventListener("keydown", (event) => {
    if (event.target.id === "data-drop" && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); by("data-file").click(); }
  });
  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-parley]");
    if (target?.dataset.parley === "save-report" && report) save();
    if (target?.dataset.parley === "train-file" && checked) {
      parley.openTab("Train");
      // Gradio builds the tab when it is opened.
      const sendFile = () => by("train-drop") ? window.parleyUpload.send(by("train-drop"), checked) : setTimeout(sendFile, 50);
      sendFile();
    }
    if (target?.dataset.parley === "sort") sort(target);
  });
})();
