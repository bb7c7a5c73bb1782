// Preview in place: posts the form to the button's address and puts the panel under the sentence.
// Without it, or where the form has errors, the browser does the same with the whole page.
"use strict";
(() => {
  const form = document.getElementById("ratelimit_form");
  const button = document.getElementById("preview-button");
  const place = document.getElementById("limit-preview");
  if (!form || !button || !place) return;
  const LOOK_MS = 1000;
  let asked = null;
  let whole = false;
  let timer = 0;

  const show = (html) => {
    const first = !place.firstElementChild;
    place.innerHTML = html;
    const panel = place.querySelector(".pv");
    for (const use of place.querySelectorAll("[data-quota]")) use.hidden = false;
    if (first && panel) panel.scrollIntoView({ block: "nearest" });
    const again = place.querySelector("[data-waits] [name=preview_run]");
    if (again) {
      again.hidden = true;
      timer = setTimeout(() => ask(button, again), LOOK_MS);
    }
    return panel;
  };

  const ask = async (by, extra) => {
    if (asked) asked.abort();
    clearTimeout(timer);
    asked = new AbortController();
    const body = new FormData(form);
    if (extra) body.set(extra.name, extra.value);
    button.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(by.formAction, {
        method: "POST", body, headers: { "X-Preview": "panel" }, signal: asked.signal,
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const panel = show(await answer.text());
      if (!extra && panel) panel.focus({ preventScroll: false });
    } catch (error) {
      if (error.name === "AbortError") return;
      whole = true;
      form.requestSubmit(button); // The page says what is wrong, field by field.
    }
    button.removeAttribute("aria-busy");
  };

  form.addEventListener("submit", (event) => {
    const by = event.submitter;
    if (whole || !by || !["_preview", "preview_run", "preview_stop"].includes(by.name)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(by, by === button ? null : by);
  }, true);
  place.addEventListener("click", (event) => {
    const { quota } = event.target.dataset;
    if (!quota) return;
    const field = form.elements.quota;
    field.value = quota;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  });
  for (const use of place.querySelectorAll("[data-quota]")) use.hidden = false;
})();
