// What options in JSON cannot say: times along the axis, the words of a point.
// The theme makes the charts as the page loads; without it, the table below says the same.
"use strict";

addEventListener("load", () => {
  const charts = document.querySelector("[data-zone]");
  if (!charts || typeof Chart === "undefined") return;
  const { zone, language } = charts.dataset;
  const day = new Intl.DateTimeFormat(language, { timeZone: zone, day: "numeric", month: "short" });
  const hour = new Intl.DateTimeFormat(language, {
    timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  });
  for (const canvas of charts.querySelectorAll("canvas")) {
    const chart = Chart.getChart(canvas);
    if (!chart) continue;
    const { x, y } = chart.options.scales;
    x.ticks.callback = function (at) {
      return (this.max - this.min < 2 * 86400000 ? hour : day).format(at);
    };
    y.ticks.callback = (value) => value.toLocaleString(language);
    const { tooltip } = chart.options.plugins;
    tooltip.filter = (item) => Boolean(item.raw.said);
    tooltip.callbacks = { title: () => "", label: (item) => item.raw.said };
    chart.update();
  }
});
