// While a limit's form is edited: shows the fields that belong to a choice only where that choice is
// made, and keeps the sentence and the steps above the form true, which the server words.
"use strict";
(() => {
  const form = document.getElementById("ratelimit_form");
  if (!form) return;

  // A burst or a lease elsewhere is refused, not dropped: one that was typed in stays in sight.
  const APPLIES = {
    canary_percent: (data) => data.get("mode") === "canary",
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
  const life = document.getElementById("limit-life");
  const PAUSE_MS = 200;
  const UNKNOWN = "The server does not answer: what this limit will do is not known.";
  const MAY_NOT_EDIT = 403; // The form is only shown: the sentence that came with it stays.
  let timer = 0;
  let asked = null;

  const ask = async () => {
    if (asked) asked.abort();
    asked = new AbortController();
    const request = { method: "POST", body: new FormData(form), signal: asked.signal };
    try {
      const answer = await fetch(sentence.dataset.url, request);
      if (answer.status === MAY_NOT_EDIT) return;
      sentence.textContent = answer.ok ? await answer.text() : UNKNOWN;
      const steps = life && (await fetch(life.dataset.url, request));
      if (steps && steps.status === 200) life.innerHTML = await steps.text();
    } catch (error) {
      if (error.name !== "AbortError") sentence.textContent = UNKNOWN;
    }
  };

  // What an edit of the rate does to those who have something counted: only then is Redis asked.
  const RATE = ["algorithm", "quota", "window_amount", "window_unit", "burst", "cost", "counted_by",
    "header", "view_argument", "block_amount", "block_unit", "charge_denied", "mode"];
  const rate = () => {
    const data = new FormData(form);
    return JSON.stringify(RATE.map((name) => data.getAll(name)));
  };
  let told = rate();
  let weighing = null;
  const weigh = async () => {
    const keeping = document.getElementById("limit-keeping");
    const wanted = rate();
    if (!keeping || !keeping.dataset.url || wanted === told) return;
    told = wanted;
    if (weighing) weighing.abort();
    weighing = new AbortController();
    try {
      const answer = await fetch(keeping.dataset.url, {
        method: "POST",
        body: new FormData(form),
        headers: { "X-Requested-With": "fetch" },
        signal: weighing.signal,
      });
      if (answer.ok) keeping.outerHTML = await answer.text();
    } catch (error) {
      if (error.name !== "AbortError") keeping.textContent = UNKNOWN;
    }
  };

  const edited = () => {
    arrange();
    clearTimeout(timer);
    timer = setTimeout(() => {
      // Only the theme has a place for it, and nothing can be typed into a form that is only shown.
      if (sentence && sentence.dataset.url) ask();
      weigh();
    }, PAUSE_MS);
  };
  arrange();
  form.addEventListener("input", edited);
  form.addEventListener("change", edited);
  // Once at the start, when the browser has put back what was typed before a reload.
  window.addEventListener("pageshow", edited);
})();
