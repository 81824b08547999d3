/* All items of the comparison: searched, filtered, sorted and shown a page at a time. */
(() => {
  const block = document.getElementById("items"), live = document.getElementById("reader");
  if (!block || !live) return;
  const PAGE = 25;
  const {tasks, choices, items, outcomes, marks} = JSON.parse(block.textContent);
  const field = name => live.querySelector(`[name="${name}"]`), list = live.querySelector(".items"), status = live.querySelector(".status");
  const [back, on] = live.querySelectorAll(".pages button"), told = live.querySelector(".pages span");
  const OUTCOMES = {
    "gained": _("gained"), "lost": _("lost"), "both right": _("both right"),
    "both wrong": _("both wrong"), "easier": _("easier"), "harder": _("harder"),
  };
  const MARKS = {"unreadable answer": _("unreadable answer"), "truncated": _("truncated"), "touched": _("touched")};
  const STYLES = {"both right": "both", "both wrong": "neither"};
  const name = item => tasks[item.t].replaceAll("_", " "), key = item => `item-${item.t}-${item.id}`;
  const passage = item => item.b.bits !== undefined;
  let found = items, page = 0;

  /* What a search looks through: made once, when it is first needed. */
  const text = item => item.text ??= [item.q, ...(item.c === undefined ? [] : choices[item.c]), item.g, item.s, item.b.a, item.u.a]
    .filter(Boolean).join("\n").normalize("NFKC").toLowerCase();
  /* What was gained: right or wrong first, then how far, then how sure; of a passage its bits. */
  const worth = side => side.ok + ((side.part ?? 0) + (side.p ?? 0)) / 4;
  const gain = item => passage(item) ? item.b.bits - item.u.bits : worth(item.u) - worth(item.b);
  const ORDERS = {
    gain: (a, b) => gain(b) - gain(a), loss: (a, b) => gain(a) - gain(b),
    short: (a, b) => a.q.length - b.q.length, long: (a, b) => b.q.length - a.q.length,
  };

  const choose = () => {
    const sought = field("search").value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
    const [task, outcome, mark] = ["task", "outcome", "mark"].map(it => field(it).value);
    found = items.filter(item => (task === "" || item.t === Number(task)) && (outcome === "" || outcomes[item.o] === outcome)
      && (mark === "" || (item.m || 0) >> marks.indexOf(mark) & 1) && sought.every(word => text(item).includes(word)));
    const order = ORDERS[field("order").value];
    if (order) found.sort(order);
    show(0);
  };

  const show = to => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.max(0, Math.min(pages - 1, to));
    const start = page * PAGE, some = found.slice(start, start + PAGE);
    list.replaceChildren(...some.map(line));
    status.textContent = found.length ? _("{first} to {last} of {found} items ({all} in all)",
      {first: count(start + 1), last: count(start + some.length), found: count(found.length), all: count(items.length)}) : _("No item fits.");
    told.textContent = _("page {page} of {pages}", {page: count(page + 1), pages: count(pages)});
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
  };

  const line = item => {
    const outcome = outcomes[item.o], button = make("button", {"type": "button", "aria-expanded": "false"},
      make("span", {class: `became ${STYLES[outcome] || outcome}`}, OUTCOMES[outcome]), make("span", {class: "task"}, name(item)),
      make("span", {class: "question", dir: "auto"}, item.q.slice(0, 300) || item.id));
    const entry = make("li", {id: key(item)}, button);
    button.addEventListener("click", () => toggle(entry, item));
    return entry;
  };

  const toggle = (entry, item) => {
    const button = entry.firstChild, open = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(open));
    if (!open) return entry.lastChild.remove();
    entry.append(detail(item));
    try { history.replaceState(null, "", `#${key(item)}`); } catch { /* a page inside another has no address of its own */ }
  };

  const detail = item => {
    const about = [name(item), _("row {row}", {row: item.row}), item.s && item.s.replaceAll("_", " "), item.id,
      ...marks.filter((mark, bit) => (item.m || 0) >> bit & 1).map(mark => MARKS[mark])];
    const made = make("div", {class: "item"}, make("p", {class: "about"}, about.filter(Boolean).join(" · ")));
    if (item.q) made.append(make("p", {class: "question", dir: "auto", tabindex: "0"}, item.q));
    if (item.c !== undefined) made.append(make("ol", {"aria-label": _("choices")}, ...choices[item.c].map(choice => option(choice, item))));
    else if (item.g) made.append(make("p", {}, make("b", {}, _("gold"), ": "), item.g));
    made.append(make("div", {class: "sides"}, side(_("base"), item.b, item), side(_("tuned"), item.u, item)));
    return made;
  };

  const option = (choice, item) => {
    const tags = [[item.g, _("gold")], [item.b.as ?? item.b.a, _("base")], [item.u.as ?? item.u.a, _("tuned")]];
    return make("li", {class: choice === item.g ? "gold" : null, dir: "auto"}, choice,
      ...tags.filter(([given]) => given === choice).map(([, who]) => make("span", {class: "tag"}, who)));
  };

  const side = (who, answer, item) => {
    const made = make("section", {"class": "side", "aria-label": who}, make("h3", {}, who));
    if (passage(item)) return made.append(make("p", {}, _("{value} bits per byte", {value: answer.bits ?? "–"}))), made;
    made.append(make("p", {class: answer.ok ? "right" : "wrong", dir: "auto"},
      make("span", {class: "hidden"}, (answer.ok ? _("right") : _("wrong")) + ": "), answer.a || _("no answer")));
    if (answer.bad && answer.a) made.append(make("small", {}, _("cannot be read as an answer")));
    if (answer.as !== undefined) made.append(make("small", {}, _("read as {answer}", {answer: answer.as})));
    if (answer.part !== undefined) made.append(make("small", {}, _("right by {percent} %", {percent: (100 * answer.part).toFixed(0)})));
    if (answer.p !== undefined) made.append(make("small", {}, _("probability of the right choice: {percent} %", {percent: (100 * answer.p).toFixed(1)})));
    return made;
  };

  /* The item whose address the page was opened with, or that a reader comes back to. */
  const visit = () => {
    const place = found.findIndex(item => `#${key(item)}` === location.hash);
    if (place < 0) return;
    show(Math.floor(place / PAGE));
    const entry = document.getElementById(location.hash.slice(1));
    if (entry.firstChild.getAttribute("aria-expanded") === "false") entry.firstChild.click();
    entry.scrollIntoView();
    entry.firstChild.focus({preventScroll: true});
  };

  let waiting = 0;
  field("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 120); });
  for (const it of ["task", "outcome", "mark", "order"]) field(it).addEventListener("change", choose);
  live.querySelector("form").addEventListener("submit", event => { event.preventDefault(); choose(); });
  live.querySelector("form").addEventListener("reset", () => setTimeout(choose));
  back.addEventListener("click", () => show(page - 1));
  on.addEventListener("click", () => show(page + 1));
  list.addEventListener("keydown", event => {
    const buttons = [...list.querySelectorAll(":scope > li > button")], at = buttons.indexOf(event.target);
    const entry = event.target.closest("li[id]");
    if (event.key === "Escape" && entry && entry.firstChild.getAttribute("aria-expanded") === "true") {
      entry.firstChild.click();
      entry.firstChild.focus();
    }
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1}[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (buttons[to]) buttons[to].focus();
  });
  /* Counts in the tables lead to their items. */
  document.addEventListener("click", event => {
    const link = event.target.closest("a[data-task]");
    if (!link) return;
    field("search").value = field("mark").value = "";
    field("task").value = tasks.indexOf(link.dataset.task);
    field("outcome").value = link.dataset.outcome;
    choose();
    status.focus({preventScroll: true});
  });
  document.getElementById("samples").classList.add("on-paper");
  document.getElementById("samples").hidden = true;
  live.hidden = false;
  choose();
  addEventListener("load", () => setTimeout(visit)); /* after the browser's own way to the address, which takes the focus away */
  addEventListener("hashchange", visit);
})();
