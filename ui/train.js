// The Train tab in the browser: files are sent, and a run's picture is kept up.
(() => {
  if (window.parleyTrain) return;
  // The picture of a run that goes on: its lines are moved where they are, with the Plotly that Gradio has loaded.
  const draw = (text) => {
    const place = document.querySelector("#train-plot .js-plotly-plot");
    if (!text || !place || !window.Plotly) return [];
    const figure = JSON.parse(text);
    window.Plotly.react(place, figure.data, { ...figure.layout, autosize: true }, { responsive: true });
    return [];
  };
  window.parleyTrain = { draw };
  const say = (text) => { const line = document.getElementById("train-sent"); if (line) line.textContent = text; };
  const send = async (file) => {
    say(`Sending ${file.name} …`);
    let answer;
    try {
      const headers = { "x-filename": encodeURIComponent(file.name) };
      answer = await (await fetch("/data/files", { method: "POST", body: file, headers })).json();
    } catch { answer = { error: { message: "The page did not take the file. Try again." } }; }
    if (answer.error) { say(answer.error.message); return; }
    say(`${answer.filename} is here.`);
    document.querySelector("#train-uploaded")?.click();
  };
  const over = (event) => event.target.closest?.("#train-drop");
  document.addEventListener("change", (event) => {
    if (event.target.id !== "train-file" || !event.target.files[0]) return;
    send(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => { if (over(event)) { event.preventDefault(); over(event).classList.add("over"); } });
  document.addEventListener("dragleave", (event) => over(event)?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    over(event).classList.remove("over");
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
})();
