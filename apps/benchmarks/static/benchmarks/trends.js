// What options in JSON cannot say: dates along the axis, the words of a point, a click on it.
// The theme makes the chart as the page loads; without it, the table below says the same.
"use strict";

addEventListener("load", () => {
  const canvas = document.querySelector("#trend canvas");
  const chart = canvas && Chart.getChart(canvas);
  if (!chart) return;
  const { zone, language, run } = document.querySelector("#trend").dataset;
  const day = new Intl.DateTimeFormat(language, { timeZone: zone, day: "numeric", month: "short" });
  const hour = new Intl.DateTimeFormat(language, {
    timeZone: zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  });
  const { x, y } = chart.options.scales;
  x.ticks.callback = function (at) {
    return (this.max - this.min < 4 * 86400000 ? hour : day).format(at);
  };
  y.ticks.callback = (value) => value.toLocaleString(language);
  const { tooltip } = chart.options.plugins;
  tooltip.filter = (item) => Boolean(item.raw.said);
  tooltip.callbacks = { title: () => "", label: (item) => item.raw.said };
  chart.options.onClick = (event, hit) => {
    const dots = hit.map((one) => chart.data.datasets[one.datasetIndex].data[one.index]);
    const dot = dots.find((one) => one.run);
    if (dot) location.href = run.replace("/0/", `/${dot.run}/`);
  };
  chart.update();
});
