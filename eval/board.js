/* The leaderboard: another baseline, and only the columns and rows that are asked for. */
(() => {
  const {asked, apart} = JSON.parse(document.getElementById("data").textContent), table = document.getElementById("board");
  const form = document.getElementById("choose"), status = document.querySelector(".status"), field = name => form.elements[name];
  const heads = [...table.tHead.rows[0].cells].filter(head => head.dataset.task), rows = [...table.tBodies[0].rows];
  const of = row => Number(row.dataset.row);

  /* What a column ranks: the question of the baseline, else the one that most rows were asked. */
  const question = (column, baseline) => {
    if (column[baseline] !== null) return column[baseline];
    const told = column.filter(it => it !== null), often = it => told.filter(other => other === it).length;
    return told.reduce((best, it) => often(it) > often(best) ? it : best);
  };

  const compare = () => {
    const baseline = Number(field("baseline").value);
    for (const row of rows) {
      row.classList.toggle("reference", of(row) === baseline);
      heads.forEach((head, place) => {
        const cell = row.cells[head.cellIndex], told = apart[baseline][of(row)][place], small = cell.querySelector(".apart");
        if (!small) return;
        const other = asked[place][of(row)] !== question(asked[place], baseline);
        cell.classList.toggle("other", other);
        cell.querySelector(".why").hidden = !other;
        small.replaceChildren(...told.length ? [make("span", {class: told[2]}, told[0]), ` (${told[1]})`] : []);
      });
    }
    for (const head of table.tHead.rows[0].cells) {
      const order = head.getAttribute("aria-sort");
      if (order && order !== "none") sortTable(table, head, order);
    }
  };

  const choose = () => {
    const sector = field("sector").value, language = field("language").value, sought = field("search").value.trim().toLowerCase();
    const fits = text => text.toLowerCase().includes(sought), anyRow = rows.some(row => fits(row.cells[0].textContent));
    const anyTask = heads.some(head => fits(head.textContent));
    let columns = 0, models = 0;
    for (const head of heads) {
      const there = (!sector || head.dataset.sector === sector) && (!language || head.dataset.languages.split(" ").includes(language))
        && (!anyTask || fits(head.textContent));
      columns += there;
      for (const row of [table.tHead.rows[0], ...rows]) row.cells[head.cellIndex].hidden = !there;
    }
    for (const row of rows) {
      row.hidden = anyRow ? !fits(row.cells[0].textContent) : !anyTask;
      models += !row.hidden;
    }
    status.textContent = _("{models} models, {tasks} tasks", {models: count(models), tasks: count(columns)});
  };

  field("baseline").addEventListener("change", compare);
  for (const name of ["sector", "language"]) field(name).addEventListener("change", choose);
  field("search").addEventListener("input", choose);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { choose(); compare(); }));
  form.hidden = status.hidden = false;
  choose();
})();
