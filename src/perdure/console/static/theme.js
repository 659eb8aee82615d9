// A classic script, ahead of everything else: the page must not be painted light first and dark a moment later.
(() => {
  const chosen = localStorage.getItem("perdure.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
