"use strict";
(() => {
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const said = document.getElementById("said");

  // Light or dark: the reader's system decides until the button does.
  const theme = document.getElementById("theme");
  const isDark = () => {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  showTheme();

  // Sorting: the same heading again turns the order round; what is missing stays last.
  const numberOf = (text) => {
    const number = Number.parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? null : number;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.firstElementChild.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        const isNumber = heading.classList.contains("number");
        const keyed = [...table.tBodies[0].rows].map((row) => {
          const text = row.cells[column].textContent;
          return { row, key: isNumber ? numberOf(text) : text === "-" ? null : text };
        });
        const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en", { numeric: true });
        keyed.sort((a, b) => {
          if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
          return up ? compare(a.key, b.key) : compare(b.key, a.key);
        });
        table.tBodies[0].append(...keyed.map((item) => item.row));
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        said.textContent = `Sorted by ${heading.innerText.trim()}, ${up ? "ascending" : "descending"}`;
      });
    });
  }

  // What is under the pointer tells what it is; thin lines are found from a few pixels away.
  const reach = [[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3], [5, 5], [-5, -5], [5, -5], [-5, 5]];
  let hit = null;
  const found = (event) => {
    for (const [x, y] of reach) {
      const element = document.elementFromPoint(event.clientX + x, event.clientY + y);
      const owner = element && element.closest("[data-tip]");
      if (owner) return owner;
    }
    return null;
  };
  const show = (owner, x, y) => {
    if (hit !== owner) {
      if (hit) hit.classList.remove("hit");
      if (owner) owner.classList.add("hit");
      hit = owner;
    }
    tip.hidden = !owner;
    if (!owner) return;
    tip.textContent = owner.dataset.tip;
    const left = Math.min(x + 14, innerWidth - tip.offsetWidth - 8);
    const top = y + 18 + tip.offsetHeight > innerHeight ? y - 14 - tip.offsetHeight : y + 18;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${top}px`;
  };
  for (const chart of document.querySelectorAll(".chart")) {
    chart.addEventListener("pointermove", (event) => show(found(event), event.clientX, event.clientY));
    chart.addEventListener("pointerleave", () => show(null));
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") show(null); });

  // Charts grow within their frame, which scrolls by touch, wheel and arrow keys.
  for (const buttons of document.querySelectorAll(".zoom")) {
    const chart = buttons.previousElementSibling;
    const svg = chart.firstElementChild;
    let zoom = 1;
    buttons.hidden = false;
    buttons.addEventListener("click", (event) => {
      const factor = Number(event.target.dataset.zoom);
      if (Number.isNaN(factor)) return;
      const middle = (chart.scrollLeft + chart.clientWidth / 2) / chart.scrollWidth;
      zoom = factor === 0 ? 1 : Math.min(8, Math.max(1, zoom * factor));
      svg.style.setProperty("--zoom", zoom);
      chart.scrollLeft = middle * chart.scrollWidth - chart.clientWidth / 2;
      said.textContent = `Enlarged ${Math.round(zoom * 100)} %`;
    });
  }

  // A link to what is folded away opens it.
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.querySelector(":scope > details");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
