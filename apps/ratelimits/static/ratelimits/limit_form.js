// While a limit's form is edited: shows the fields that belong to a choice only where that choice is
// made, and keeps the sentence above the form true, which the server words.
"use strict";
(() => {
  const form = document.getElementById("ratelimit_form");
  if (!form) return;

  // A burst or a lease elsewhere is refused, not dropped: one that was typed in stays in sight.
  const APPLIES = {
    path: (data) => data.get("path_kind") !== "named",
    header: (data) => data.getAll("counted_by").includes("header"),
    view_argument: (data) => data.getAll("counted_by").includes("view_argument"),
    identities: (data) => !data.getAll("counted_by").includes("everyone"),
    burst: (data) => data.get("algorithm") === "token_bucket" || data.get("burst") !== "",
    lease: (data) => data.get("algorithm") === "fixed_window" || Number(data.get("lease")) !== 0,
    statuses: (data) => data.get("counts") === "status",
    signal: (data) => data.get("counts") === "signal",
    block_unit: (data) => data.get("block_amount") !== "",
  };
  const arrange = () => {
    const data = new FormData(form);
    for (const [name, applies] of Object.entries(APPLIES)) {
      const field = form.elements[name];
      if (!field) continue; // The form is only shown.
      const row = field.closest(`.field-${name}`);
      const shown = applies(data) || row.classList.contains("errors");
      row.style.display = shown ? "" : "none";
    }
  };

  const sentence = document.getElementById("limit-sentence");
  const PAUSE_MS = 200;
  const UNKNOWN = "The server does not answer: what this limit will do is not known.";
  const MAY_NOT_EDIT = 403; // The form is only shown: the sentence that came with it stays.
  let timer = 0;
  let asked = null;

  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    try {
      const request = { method: "POST", body: new FormData(form), signal: asked.signal };
      const answer = await fetch(sentence.dataset.url, request);
      if (answer.status === MAY_NOT_EDIT) return;
      sentence.textContent = answer.ok ? await answer.text() : UNKNOWN;
    } catch (error) {
      if (error.name !== "AbortError") sentence.textContent = UNKNOWN;
    }
  };

  const edited = () => {
    arrange();
    if (!sentence) return; // Only the theme has a place for it.
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  };
  arrange();
  form.addEventListener("input", edited);
  form.addEventListener("change", edited);
  // Once at the start, when the browser has put back what was typed before a reload.
  window.addEventListener("pageshow", edited);
})();
