"use strict";
const root = document.documentElement, tip = document.getElementById("tip");
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Tables: a click on a column's name sorts by it, by number where both cells start with one.
const value = (row, column) => row.children[column].textContent.trim();
const compare = (a, b) => {
  const [x, y] = [a, b].map((text) => parseFloat(text.replace(/,/g, "")));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
  });
}

// Charts: the nearest point is named under the pointer; with the keyboard, arrows walk along and between series.
for (const chart of document.querySelectorAll("svg.chart")) {
  const series = JSON.parse(chart.dataset.points), cursor = chart.querySelector(".cursor");
  const view = chart.viewBox.baseVal;
  let at = [0, -1];
  const show = (s, i) => {
    const [x, y, text] = series[s].points[i], box = chart.getBoundingClientRect();
    at = [s, i];
    cursor.setAttribute("cx", x);
    cursor.setAttribute("cy", y);
    cursor.setAttribute("visibility", "visible");
    tip.textContent = series.length > 1 ? `${series[s].label}: ${text}` : text;
    tip.hidden = false;
    const left = box.left + (x / view.width) * box.width + 12, top = box.top + (y / view.height) * box.height + 12;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.min(top, innerHeight - tip.offsetHeight - 4)}px`;
  };
  const hide = () => { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * view.width;
    const py = ((event.clientY - box.top) / box.height) * view.height;
    let best = null;
    series.forEach(({ points }, s) => points.forEach(([x, y], i) => {
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (!best || distance < best[0]) best = [distance, s, i];
    }));
    if (best) show(best[1], best[2]);
  });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Escape") hide();
    if (!move || !series.length) return;
    event.preventDefault();
    const s = (at[0] + move[0] + series.length) % series.length, count = series[s].points.length;
    if (count) show(s, Math.max(0, Math.min(count - 1, at[1] + move[1])));
  });
}
