// A swipe over the question or the buttons of the raters' page, on a touch screen: left for A, right for B. The answers
// are left out, since a swipe there moves from one to the other. Scrolling, selecting text and two fingers are no swipe.
(() => {
  const DISTANCE = 90; // pixels to the side until it counts
  const HEIGHT = 60; // pixels up or down at which it is something else
  const PLACES = "#rater[data-swipe=on] :is(#vote-question, .dock)";
  let start = null;

  const choiceAt = (event) => {
    const across = event.clientX - start.x;
    return Math.abs(across) < DISTANCE ? null : across < 0 ? "left" : "right";
  };
  const mark = (choice) => {
    for (const button of document.querySelectorAll("#vote-ballot [data-choice]")) {
      button.classList.toggle("swiped", button.dataset.choice === choice);
    }
  };
  const reset = () => {
    if (start) mark(null);
    start = null;
  };
  const selecting = () => !(getSelection()?.isCollapsed ?? true);

  document.addEventListener("pointerdown", (event) => {
    reset();
    if (event.pointerType !== "touch" || !event.isPrimary || selecting() || !event.target.closest?.(PLACES)) return;
    start = { id: event.pointerId, x: event.clientX, y: event.clientY };
  });
  document.addEventListener("pointermove", (event) => {
    if (event.pointerId !== start?.id) return;
    if (Math.abs(event.clientY - start.y) > HEIGHT || selecting()) return reset();
    mark(choiceAt(event));
  });
  document.addEventListener("pointerup", (event) => {
    if (event.pointerId !== start?.id) return;
    const choice = selecting() ? null : choiceAt(event);
    reset();
    if (choice) document.dispatchEvent(new CustomEvent("parley-swipe", { detail: choice }));
  });
  // The browser takes the touch over, to scroll or to select text.
  document.addEventListener("pointercancel", reset);
})();
