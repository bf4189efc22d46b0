// Tables that are wider than the page scroll: let the keyboard reach them, too. The theme has wrapped them by then.
addEventListener("load", () => {
  for (const part of document.querySelectorAll(".md-typeset__scrollwrap, .output")) part.tabIndex = 0;
});
