"use strict";
// The sentence above the form of a rule, kept true while it is edited.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("rule-sentence");
  const facts = document.getElementById("metric-facts");
  if (!place || !facts) return;
  const metrics = JSON.parse(facts.textContent);
  const fixed = JSON.parse(document.getElementById("rule-facts").textContent);
  const field = (name) => document.getElementById(`id_${name}`);
  const text = (name) => (field(name) ? field(name).value.trim() : String(fixed[name] ?? ""));
  const digits = (value) =>
    Number.isInteger(value) || Math.abs(value) >= 100
      ? Math.round(value).toLocaleString("en-US")
      : String(Number(value.toPrecision(3)));

  function amount(value, unit) {
    if (unit === "percent") return `${digits(value)} %`;
    if (unit === "us") return Math.abs(value) >= 1000 ? `${digits(value / 1000)} ms` : `${digits(value)} us`;
    if (unit === "per_s") return `${digits(value)}/s`;
    if (unit === "bytes") {
      for (const [size, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]])
        if (Math.abs(value) >= size) return `${digits(value / size)} ${name}`;
      return `${digits(value)} bytes`;
    }
    if (unit !== "s") return digits(value);
    if (value < 60 || (value % 60 && value < 120)) return `${digits(value)} s`;
    if (value % 60) {
      const minutes = Math.floor(Math.round(value) / 60);
      return minutes < 60 ? `${minutes} min ${Math.round(value) % 60} s` : `${digits(value / 3600)} h`;
    }
    const minutes = value / 60;
    return minutes < 60 || minutes % 60 ? `${minutes} min` : `${minutes / 60} h`;
  }

  function say() {
    const metric = metrics[text("metric")];
    const threshold = parseFloat(text("threshold"));
    if (!metric || Number.isNaN(threshold)) {
      place.textContent = "Choose a metric and a threshold: this will say what the rule does.";
      return;
    }
    const lasting = Number(text("for_s")) || 0;
    const least = Number(text("at_least")) || 0;
    const clear = text("clear") === "" ? threshold : parseFloat(text("clear"));
    const severity = text("severity") || "warning";
    place.textContent =
      `${severity[0].toUpperCase()}${severity.slice(1)}: ${metric.label} ${text("direction")} ` +
      amount(threshold, metric.unit) +
      (lasting ? ` for ${amount(lasting, "s")}` : "") +
      (least ? `, where at least ${least.toLocaleString("en-US")} ${metric.of} are behind it` : "") +
      `. Over at ${amount(clear, metric.unit)}.`;
  }
  document.addEventListener("input", say);
  document.addEventListener("change", say);
  say();
});
