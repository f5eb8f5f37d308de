"""The page's script: reads values to the pointer and to the arrow keys. Without it everything but
these values is there."""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const text = value => value === null ? "not finite"
  : Number(value.toPrecision(6)).toLocaleString("en", {maximumFractionDigits: 12});

function follow(svg, at, keys) {
  svg.addEventListener("pointermove", event => {
    const matrix = svg.getScreenCTM();
    if (matrix) at(new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()));
  });
  svg.addEventListener("focus", () => keys(0, 0));
  svg.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
      PageUp: [-10, 0], PageDown: [10, 0], Home: [-Infinity, 0], End: [Infinity, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    keys(...step);
  });
}

for (const svg of document.querySelectorAll("[data-chart]")) {
  const chart = data.charts[svg.dataset.chart], cursor = svg.querySelector(".cursor");
  const readout = svg.parentElement.querySelector(".readout");
  const steps = [...new Set(chart.lines.flatMap(line => line.steps))].sort((a, b) => a - b);
  const left = 56, right = 330, [low, high] = chart.x;
  let now = steps.length - 1;
  const show = index => {
    now = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[now], x = left + (step - low) / (high - low) * (right - left);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    svg.classList.add("on");
    readout.textContent = `step ${step}: ` + chart.lines.filter(line => line.steps.includes(step))
      .map(line => `${line.name} ${text(line.values[line.steps.indexOf(step)])}${chart.unit}`)
      .join(", ");
  };
  follow(svg, point => {
    const wanted = low + (point.x - left) / (right - left) * (high - low);
    let best = 0;
    steps.forEach((step, at) => {
      if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = at;
    });
    show(best);
  }, (dx, dy) => show(now + (dx || -dy)));
}

for (const svg of document.querySelectorAll("[data-heat]")) {
  const of = data.heat[svg.dataset.heat];
  const layers = Object.keys(of).sort((a, b) => a - b);
  const [cell, left, top, row] =
    ["cell", "left", "top", "row"].map(name => Number(svg.dataset[name]));
  const cursor = svg.querySelector(".cursor");
  const readout = svg.closest("figure").querySelector(".readout");
  let x = 0, y = 0;
  const show = (expert, line) => {
    y = Math.max(0, Math.min(layers.length - 1, line));
    const layer = layers[y], shares = of[layer];
    x = Math.max(0, Math.min(shares.length - 1, expert));
    const chosen = ((data.selection || {})[layer] || []).includes(x);
    cursor.setAttribute("x", left + x * cell);
    cursor.setAttribute("y", top + y * row);
    cursor.setAttribute("width", cell);
    cursor.setAttribute("height", row);
    svg.classList.add("on");
    readout.textContent = `layer ${layer}, expert ${x}: ${(100 * shares[x]).toFixed(2)}% of the ` +
      `layer's selections` + (chosen ? ", chosen to train" : "");
  };
  follow(svg, point => {
    const expert = Math.floor((point.x - left) / cell), line = Math.floor((point.y - top) / row);
    if (expert >= 0 && line >= 0 && line < layers.length) show(expert, line);
  }, (dx, dy) => show(x + dx, y + dy));
}
"""
