// Keeps the sentence above a limit's form true while the form is edited. The server words it.
"use strict";
(() => {
  const box = document.getElementById("limit-sentence");
  const form = box && box.closest("form");
  if (!form) return;
  const PAUSE_MS = 200;
  let timer = 0;
  let asked = null;

  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    try {
      const body = new FormData(form);
      const answer = await fetch(box.dataset.url, { method: "POST", body, signal: asked.signal });
      if (answer.ok) box.textContent = await answer.text();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
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
