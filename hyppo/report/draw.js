// Draws every figure of the page, one after another; each stands as JSON in a script element beside its place.
async function drawAll() {
  const options = {
    renderer: "svg",
    ast: true, // expressions are interpreted, so that the page needs no eval
    actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
    tooltip: { theme: "custom" },
  };
  for (const source of document.querySelectorAll("script.figure")) {
    const place = document.getElementById(source.dataset.place);
    try {
      const own = { downloadFileName: source.dataset.place, actions: place.closest(".grid") ? false : options.actions };
      const result = await vegaEmbed(place, JSON.parse(source.textContent), { ...options, ...own });
      (window.views ??= {})[source.dataset.place] = result.view;
    } catch (error) {
      place.textContent = "This figure could not be drawn: " + error;
      console.error(error);
    }
    await new Promise((done) => setTimeout(done));
  }
  document.documentElement.dataset.drawn = "true";
}
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copies);
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      button.textContent = "selected: press Ctrl-C";
    }
  });
}
drawAll();
