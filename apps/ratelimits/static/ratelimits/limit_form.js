// Keeps the sentence above a limit's form true while the form is edited. The server words it.
"use strict";
(() => {
  const box = document.getElementById("limit-sentence");
  const form = box && box.closest("form");
  if (!form) return;
  const PAUSE_MS = 200;
  const UNKNOWN = "The server does not answer: what this limit will do is not known.";
  const MAY_NOT_EDIT = 403; // The form is only shown: the sentence that came with it stays.
  let timer = 0;
  let asked = null;

  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    try {
      const body = new FormData(form);
      const answer = await fetch(box.dataset.url, { method: "POST", body, signal: asked.signal });
      if (answer.status === MAY_NOT_EDIT) return;
      box.textContent = answer.ok ? await answer.text() : UNKNOWN;
    } catch (error) {
      if (error.name !== "AbortError") box.textContent = UNKNOWN;
    }
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  };
  form.addEventListener("input", later);
  form.addEventListener("change", later);
  ask();
})();
