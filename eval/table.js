/* Tables that are sorted by a click or a key on the head of a column. What has no value, or none that may be compared, stays last. */
const sortTable = (table, head, order) => {
  const column = [...head.parentElement.children].indexOf(head), sign = order === "ascending" ? 1 : -1;
  const value = row => {
    const cell = row.cells[column], told = cell.dataset.value;
    return told === "" || cell.classList.contains("other") ? null : told === undefined ? cell.textContent.trim() : Number(told);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.matches(".pooled, .group, .whole")).map(row => [value(row), row]);
    const there = rows.filter(([key]) => key !== null).sort((a, b) => sign * compare(a[0], b[0]));
    const last = [...body.rows].find(row => row.matches(".pooled"));
    for (const [, row] of [...there, ...rows.filter(([key]) => key === null)]) body.insertBefore(row, last || null);
  }
  for (const other of head.parentElement.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order);
};
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.sort) continue;
    const button = make("button", {type: "button"});
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = head.dataset.sort, other = first === "ascending" ? "descending" : "ascending";
      sortTable(table, head, head.getAttribute("aria-sort") === first ? other : first);
    });
  }
}
