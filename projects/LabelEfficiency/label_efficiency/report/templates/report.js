// Sort a table by a click on a column's head: numbers by data-sort, else text; a second click reverses the order.
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = key(a), y = key(b);
      return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    });
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }));
});

// Enlarge a picture to the whole window by a click; a second click, or Escape, shrinks it.
document.querySelectorAll("figure img, figure.chart > svg").forEach((image) => {
  image.addEventListener("click", () => image.classList.toggle("enlarged"));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelectorAll(".enlarged").forEach((image) => image.classList.remove("enlarged"));
});
