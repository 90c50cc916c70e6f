"use strict";

const ROWS_PER_PAGE = 100;
const ROWS_ON_PAPER = 5000;
const DECIMALS = 12;
const collator = new Intl.Collator(undefined, { numeric: true });

// Amounts have up to 38 digits, of which a float keeps 16.
function exact(text) {
  const found = /^(-?)([\d,]+)(?:\.(\d+))?/.exec(text);
  if (!found) return null;
  const digits = found[2].replaceAll(",", "") + (found[3] ?? "").padEnd(DECIMALS, "0").slice(0, DECIMALS);
  return BigInt(found[1] + digits);
}

function written(number, decimals) {
  const digits = String(number < 0n ? -number : number).padStart(DECIMALS + 1, "0");
  const whole = digits.slice(0, -DECIMALS).replace(/\B(?=(\d{3})+$)/g, ",");
  const part = digits.slice(-DECIMALS).slice(0, decimals);
  return (number < 0n ? "-" : "") + whole + (decimals ? "." + part : "");
}

function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function enhance(root) {
  const [form, count, table, pager] = [".controls", ".count", "table", ".pager"].map((s) => root.querySelector(s));
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const labels = headings.map((heading) => heading.textContent);
  const kinds = headings.map((heading) => heading.dataset.kind);
  const header = Number(root.dataset.header);
  const place = (name) => (name in root.dataset ? Number(root.dataset[name]) : null);
  const [currency, tenant, summed] = ["currency", "tenant", "summed"].map(place);
  const find = form.querySelector("[data-find]");
  const filters = [...form.querySelectorAll("[data-filter]")];
  const sorter = form.querySelector("[data-sort]");
  const rest = root.querySelector("[data-rest]");

  const rows = [...body.rows].map((tr) => ({ tr, cells: [...tr.cells].map((cell) => cell.textContent) }));
  if (rest) for (const cells of JSON.parse(rest.textContent)) rows.push({ tr: null, cells });
  rows.forEach((row, place) => (row.place = place));

  let sorted = { column: null, isDown: false };
  let shown = rows;
  let page = 0;
  let size = ROWS_PER_PAGE;

  function element(row) {
    if (row.tr) return row.tr;
    const tr = document.createElement("tr");
    tr.setAttribute("role", "row");
    row.cells.forEach((text, column) => {
      const cell = document.createElement(column === header ? "th" : "td");
      cell.setAttribute("role", column === header ? "rowheader" : "cell");
      if (column === header) cell.scope = "row";
      cell.dataset.label = labels[column];
      if (headings[column].className) cell.className = headings[column].className;
      if (kinds[column] === "text") {
        cell.append(document.createElement("bdi"));
        cell.firstChild.textContent = text;
      } else cell.textContent = text;
      tr.append(cell);
    });
    return (row.tr = tr);
  }

  function key(row, column) {
    row.keys ??= [];
    return (row.keys[column] ??= kinds[column] === "text"
      ? row.cells[column] === "-" ? null : row.cells[column]
      : exact(row.cells[column]));
  }

  // What has no value comes last, up or down; amounts of two currencies are not compared.
  function order(a, b) {
    const { column, isDown } = sorted;
    if (column === null) return a.place - b.place;
    if (kinds[column] === "money" && currency !== null && a.cells[currency] !== b.cells[currency])
      return collator.compare(a.cells[currency], b.cells[currency]);
    const [x, y] = [key(a, column), key(b, column)];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const by = typeof x === "string" ? collator.compare(x, y) : x < y ? -1 : x > y ? 1 : 0;
    return (isDown ? -by : by) || a.place - b.place;
  }

  function matches(row, words) {
    for (const filter of filters) {
      const cell = row.cells[filter.dataset.filter];
      if (filter.value && cell !== filter.value && !cell.startsWith(filter.value + " ")) return false;
    }
    if (!words.length) return true;
    row.text ??= plain(row.cells.join("\n"));
    return words.every((word) => row.text.includes(word));
  }

  function sums() {
    if (summed === null) return "";
    const totals = new Map();
    for (const row of shown) {
      const name = (tenant === null ? "" : row.cells[tenant] + " ") + row.cells[currency];
      const total = totals.get(name) ?? { sum: 0n, decimals: 0, unknown: 0 };
      totals.set(name, total);
      const text = row.cells[summed];
      const value = key(row, summed);
      if (value === null) total.unknown += 1;
      else {
        total.sum += value;
        total.decimals = Math.max(total.decimals, (/\.(\d+)/.exec(text)?.[1] ?? "").length);
      }
    }
    return [...totals]
      .sort(([a], [b]) => collator.compare(a, b))
      .map(([name, { sum, decimals, unknown }]) =>
        ` · ${name} ${written(sum, decimals)}` + (unknown ? ` and ${unknown} not known` : ""))
      .join("");
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(Math.max(page, 0), pages - 1);
    const slice = shown.slice(page * size, (page + 1) * size);
    body.replaceChildren(...slice.map(element));
    const n = shown.length.toLocaleString("en");
    const all = rows.length.toLocaleString("en");
    const noun = rows.length === 1 ? root.dataset.noun : root.dataset.nouns;
    const part = slice.length < shown.length
      ? `, ${(page * size + 1).toLocaleString("en")} to ${(page * size + slice.length).toLocaleString("en")} shown` : "";
    count.textContent = (shown.length === rows.length ? `${all} ${noun}` : `${n} of ${all} ${noun}`) + part + total;
    pager.hidden = pages === 1;
    pager.querySelector("[data-page]").textContent = `Page ${(page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    for (const button of pager.querySelectorAll("button"))
      button.disabled = button.dataset.step < 0 ? page === 0 : page === pages - 1;
  }

  let total = "";
  function update() {
    const words = plain(find.value).split(/\s+/).filter(Boolean);
    shown = rows.filter((row) => matches(row, words)).sort(order);
    total = sums();
    page = 0;
    draw();
  }

  function sortBy(column, isDown) {
    sorted = { column, isDown };
    headings.forEach((heading, i) => {
      if (i === column) heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    sorter.value = column === null ? "" : String(column);
    update();
  }

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = labels[column];
    button.addEventListener("click", () => sortBy(column, sorted.column === column && !sorted.isDown));
    heading.replaceChildren(button);
  });
  find.addEventListener("input", update);
  for (const filter of filters) filter.addEventListener("change", update);
  sorter.addEventListener("change", () => {
    const column = sorter.value === "" ? null : Number(sorter.value);
    // Where there is no heading to press again: amounts from the largest, all else from the least.
    sortBy(column, column !== null && column !== 0 && kinds[column] === "money");
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => sortBy(null, false)));
  for (const button of pager.querySelectorAll("button"))
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      root.scrollIntoView();
    });
  addEventListener("beforeprint", () => { size = ROWS_ON_PAPER; page = 0; draw(); });
  addEventListener("afterprint", () => { size = ROWS_PER_PAGE; draw(); });
  form.hidden = false;
  update();
}

for (const root of document.querySelectorAll("[data-table]")) enhance(root);
