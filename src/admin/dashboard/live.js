// Keeps the page up to date: fetches it again every few seconds and puts in what has changed, region by region. Rests while
// nobody looks at it, while somebody types or selects text, while leads are marked, and while details are open.
"use strict";
(() => {
  const EVERY = 4000;
  const PATIENCE = 15000;
  // The box that marks all leads of a page needs this script, and is hidden without it.
  const boxes = () => document.querySelectorAll("input[name=id][type=checkbox]");
  const showMarkAll = () => { for (const all of document.querySelectorAll("[data-mark-all]")) all.hidden = false; };
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-mark-all]")) for (const box of boxes()) box.checked = event.target.checked;
  });
  showMarkAll();

  // The time where the reader is, beside the UTC that the server writes.
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const localise = (root) => {
    for (const place of root.querySelectorAll("[data-local]")) {
      const at = new Date(place.dataset.local);
      const format = at.getDate() === at.getUTCDate() ? clock : calendar;
      place.textContent = ` (${format.format(at)} here) `;
    }
  };
  localise(document);

  // A search that has found nobody yet goes on by itself.
  const goesOn = document.querySelector("a[data-goes-on]");
  if (goesOn) { location.replace(goesOn.href); return; }

  const regions = () => document.querySelectorAll("[data-live]");
  if (regions().length === 0) return;
  const pulse = document.getElementById("pulse");
  let under_way = false;
  let lost = false;

  const say = (text) => { if (pulse && pulse.textContent !== text) pulse.textContent = text; };
  const busy = () => {
    const focus = document.activeElement;
    const typing = focus && focus.closest("form") && !focus.matches("button");
    const selection = window.getSelection();
    return document.hidden || under_way || typing || (selection && !selection.isCollapsed);
  };

  const held = (region) => region && region.querySelector("input:checked, details[open]");
  const put = (fresh) => {
    for (const region of regions()) {
      const other = fresh.getElementById(region.id);
      if (!other || other.innerHTML === region.innerHTML || held(region)) continue;
      // The links to other pages go on where the rows that are shown end.
      if (region.dataset.with && held(document.getElementById(region.dataset.with))) continue;
      const focus = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const scrolled = region.querySelector(".wide")?.scrollLeft ?? 0;
      region.replaceChildren(...other.childNodes);
      if (scrolled) region.querySelector(".wide")?.scrollTo({ left: scrolled });
      showMarkAll();
      if (focus) [...region.querySelectorAll("a")].find((a) => a.getAttribute("href") === focus)?.focus();
    }
  };

  const look = async () => {
    if (busy()) return;
    under_way = true;
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), PATIENCE);
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Live": "1" }, credentials: "same-origin", cache: "no-store", redirect: "manual", signal: patience.signal,
      });
      // Signed out meanwhile, or the daemon was started again.
      if (answer.type === "opaqueredirect") { location.reload(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      localise(fresh);
      put(fresh);
      if (lost) say("Connected again.");
      lost = false;
    } catch {
      lost = true;
      say("No answer: what stands here is as it was. Trying again.");
    } finally {
      clearTimeout(timer);
      under_way = false;
    }
  };

  setInterval(look, EVERY);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
})();
