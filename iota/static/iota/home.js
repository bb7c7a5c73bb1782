// The same page again, its <main> put in place of this one: one rendering, on the server.
const EVERY_MS = 2000;
const show = (root) => root.querySelectorAll("[data-script]").forEach((part) => (part.hidden = false));
async function refresh() {
  let next_ms = EVERY_MS;
  try {
    if (!document.hidden) {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (response.ok) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const bars = new Map([...document.querySelectorAll(".rail")].map((rail) => [rail.getAttribute("aria-label"), rail.firstChild.getAttribute("width")]));
        show(page);
        const main = page.querySelector("main");
        // From where the bar stood, so that it moves instead of jumping.
        const widths = [...main.querySelectorAll(".rail")].map((rail) => [rail.firstChild, rail.firstChild.getAttribute("width"), bars.get(rail.getAttribute("aria-label"))]);
        for (const [bar, , before] of widths) if (before) bar.setAttribute("width", before);
        document.querySelector("main").replaceWith(main);
        requestAnimationFrame(() => requestAnimationFrame(() => {
          for (const [bar, width] of widths) bar.setAttribute("width", width);
        }));
      } else {
        next_ms = 1000 * Math.min(3600, Number(response.headers.get("Retry-After") || 5));
      }
    }
  } catch {
    // The site is away for a moment: ask again later.
  }
  setTimeout(refresh, next_ms);
}
show(document);
setTimeout(refresh, EVERY_MS);
