// The Train tab in the browser: updates the plot of a running training. upload.js sends files.
(() => {
  if (window.parleyTrain) return;
  // Moves the lines of the existing plot, with the Plotly that Gradio has loaded.
  const draw = (text) => {
    const target = document.querySelector("#train-plot .js-plotly-plot");
    if (!text || !target || !window.Plotly) return [];
    const figure = JSON.parse(text);
    window.Plotly.react(target, figure.data, { ...figure.layout, autosize: true }, { responsive: true });
    return [];
  };
  window.parleyTrain = { draw };
})();
