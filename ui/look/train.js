// The Train tab in the browser: a run's picture is kept up. How files are sent is in upload.js.
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
})();
