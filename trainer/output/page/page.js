"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Tables: a heading sorts its column, upwards first; rows without a value stay last.
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  all("thead th", table).forEach((heading, column) => heading.firstChild.addEventListener("click", () => {
    const sign = heading.ariaSort === "ascending" ? -1 : 1;
    all("th", table.tHead).forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x !== undefined && y !== undefined) return sign * (x - y);
      if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1;
      return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
    };
    body.append(...[...body.rows].sort(compare));
  }));
}

// Names of lines: the one under the pointer or focus stands out in every picture, a chosen one until chosen again.
let chosen = null;
const emphasize = (name) => {
  for (const each of all("figure .series")) each.classList.toggle("dim", name !== null && each.dataset.series !== name);
};
for (const button of all(".legend button")) {
  const name = button.dataset.series;
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => emphasize(name));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, () => emphasize(chosen));
  button.addEventListener("click", () => {
    chosen = chosen === name ? null : name;
    for (const each of all(".legend button")) each.ariaPressed = String(each.dataset.series === chosen);
    emphasize(chosen);
  });
}

// Pictures: a button saves each as a file of its own, with the style and the hatching that it uses.
for (const figure of all("figure")) {
  const button = document.createElement("button");
  const picture = figure.querySelector("svg");
  const title = picture.querySelector("title").textContent;
  Object.assign(button, { type: "button", className: "save", textContent: "SVG", title: `Download ${title}`, ariaLabel: `Download ${title} as SVG` });
  button.addEventListener("click", () => {
    const copy = picture.cloneNode(true);
    copy.prepend(document.querySelector("#patterns defs").cloneNode(true), document.querySelector("#pictures").cloneNode(true));
    const [, , width, height] = picture.getAttribute("viewBox").split(" ");
    copy.setAttribute("width", 2 * width);
    copy.setAttribute("height", 2 * height);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
    link.download = `${title.replace(/[^\p{L}\p{N}]+/gu, "_")}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  figure.append(button);
}

// Pictures of many pairs: a selection shows one more.
for (const select of all("select.pairs")) {
  const show = () => all("figure", document.getElementById(select.dataset.of)).forEach((each, index) => { each.hidden = index !== select.selectedIndex; });
  select.addEventListener("change", show);
  show();
}
