// File uploads in the browser: a `.drop` label uploads its file for data-purpose, then clicks the button data-uploaded.
(() => {
  if (window.parleyUpload) return;
  window.parleyUpload = {};
  const drop = (target) => target.closest?.(".drop[data-uploaded]");
  const send = async (label, file) => {
    const line = label.querySelector("em");
    const showStatus = (text) => { if (line) line.textContent = text; };
    showStatus(`Uploading ${file.name}…`);
    let answer;
    try {
      const headers = { "x-filename": encodeURIComponent(file.name), "x-purpose": label.dataset.purpose };
      answer = await (await fetch("/data/files", { method: "POST", body: file, headers })).json();
    } catch { answer = { error: { message: "The upload failed. Try again." } }; }
    if (answer.error) { showStatus(answer.error.message); return; }
    showStatus(`Uploaded ${answer.filename}.`);
    document.getElementById(label.dataset.uploaded)?.click();
  };
  window.parleyUpload.send = send;
  document.addEventListener("change", (event) => {
    const label = drop(event.target);
    if (!label || !event.target.files?.[0]) return;
    send(label, event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => { const label = drop(event.target); if (label) { event.preventDefault(); label.classList.add("over"); } });
  document.addEventListener("dragleave", (event) => drop(event.target)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    const label = drop(event.target);
    if (!label) return;
    event.preventDefault();
    label.classList.remove("over");
    if (event.dataTransfer.files[0]) send(label, event.dataTransfer.files[0]);
  });
})();
