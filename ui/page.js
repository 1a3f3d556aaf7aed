// What the page does in the browser beside what Gradio does: marks lead to sources, files are sent.
(() => {
  const say = (text) => { const at = document.getElementById("fn-upload"); if (at) at.textContent = text; };

  // --- The sources of an answer, one of which is the current one.

  let wanted = null;  // the exchange whose source was asked for last, and its number; fresh until it is shown
  let cameFrom = () => null;  // finds the mark that led to the sources: the chat may draw it anew
  let look = () => {};  // asks for the sources of another exchange
  const panel = () => document.querySelector("#fn-sources .fn-panel");
  const cards = () => [...document.querySelectorAll("#fn-sources .fn-cards > *")];
  const exchangeShown = () => Number(panel()?.dataset.exchange ?? -1);
  const numbered = (number) => [...document.querySelectorAll("#fn-sources .fn-number")]
    .find((each) => each.textContent === number)?.closest(".fn-source, .fn-origin");

  function makeCurrent(card) {
    document.querySelectorAll("#fn-sources [aria-current]").forEach((each) => each.removeAttribute("aria-current"));
    card.setAttribute("aria-current", "true");
    const all = cards(), at = all.indexOf(card);
    document.querySelectorAll("#fn-sources .fn-step").forEach((each) => {
      each.setAttribute("aria-disabled", String(!all[at + Number(each.dataset.step)]));
    });
    const told = document.querySelector("#fn-sources .fn-at");
    if (told && at >= 0) told.textContent = `Source ${at + 1} of ${all.length}`;
  }

  // Scrolls the panel, never the page: what is marked to its middle, else the card to its top.
  function show(card) {
    makeCurrent(card);
    const closed = card.closest("details");
    if (closed) closed.open = true;
    const root = document.getElementById("fn-sources"), box = card.querySelector(".fn-box");
    const room = box ? root.clientHeight / 2 : (root.querySelector(".fn-walk")?.offsetHeight ?? 0) + 4;
    const top = (box || card).getBoundingClientRect().top - root.getBoundingClientRect().top + root.scrollTop - room;
    root.scrollTo({ top, behavior: calmly() });
  }

  const calmly = () => (window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  // What is current in a panel that was drawn anew: the source that was asked for, or else the first one.
  function settle() {
    if (!panel()) { if (wanted && !wanted.fresh) wanted = null; return; }
    const asked = wanted && wanted.exchange === exchangeShown() ? numbered(wanted.number) : null;
    if (asked && wanted.fresh) arrive(asked);
    else if (asked) show(asked);
    else if (cards().length) makeCurrent(cards()[0]);
  }

  function arrive(card) {
    wanted.fresh = false;
    const root = document.getElementById("fn-sources"), active = document.activeElement;
    show(card);
    root.scrollIntoView({ block: "nearest", behavior: calmly() });
    if (active === document.body || active.closest(".fn-mark")) root.focus({ preventScroll: true });
  }

  function lead(mark) {
    const answers = () => [...document.querySelectorAll("#fn-chat .fn-answer")];
    const marks = (exchange) => [...(answers()[exchange]?.querySelectorAll(".fn-mark") ?? [])];
    const exchange = answers().indexOf(mark.closest(".fn-answer")), at = marks(exchange).indexOf(mark);
    wanted = { exchange, number: mark.textContent, fresh: true };
    cameFrom = () => marks(exchange)[at];
    const card = exchange === exchangeShown() ? numbered(wanted.number) : null;
    if (card) arrive(card);
    else look(exchange);
  }

  function step(by) {
    const all = cards(), next = all[all.findIndex((each) => each.hasAttribute("aria-current")) + by];
    if (!next) return;
    wanted = { exchange: exchangeShown(), number: next.querySelector(".fn-number").textContent, fresh: false };
    show(next);
  }

  function keyInSources(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
    else if (event.key === "Escape") cameFrom()?.focus();
  }

  // Called by the panel itself as soon as it is there.
  function sources(root, trigger, watch) {
    look = (exchange) => trigger({ exchange });
    root.tabIndex = 0;
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", "Sources; the left and right arrow keys lead from one to the next");
    root.addEventListener("keydown", keyInSources);
    watch("value", settle);
    settle();
  }
  window.footnote = { sources };

  // --- Files.

  async function told(response) {
    const body = await response.json().catch(() => ({}));
    return body.error || `the server answered with status ${response.status}`;
  }

  async function send(files) {
    const list = [...files].filter((each) => each.file.name !== ".DS_Store");
    if (!list.length) return;
    const form = new FormData();
    for (const each of list) form.append("files", each.file, each.path || each.file.name);
    say(`Sending ${list.length} ${list.length === 1 ? "file" : "files"} …`);
    const request = new XMLHttpRequest();
    request.open("POST", "api/v1/documents");  // from where this page is: each collection has one
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) say(`Sending … ${Math.round((100 * event.loaded) / event.total)} %`);
    };
    request.onerror = () => say("The files could not be sent; is Footnote still running?");
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* told below */ }
      say(request.status === 202 ? `Sent. What becomes of each file is shown below.`
        : body.error || `Not taken (status ${request.status}).`);
    };
    request.send(form);
  }

  async function inside(entry, path = "") {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      return [{ file, path: path + file.name }];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const each of some) found.push(...await inside(each, `${path}${entry.name}/`));
    }
    return found;
  }

  async function dropped(event) {
    const entries = [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry && each.webkitGetAsEntry());
    const found = [];
    for (const entry of entries.filter(Boolean)) found.push(...await inside(entry));
    send(found);
  }

  async function remove(button) {
    if (!window.confirm(`${button.getAttribute("aria-label")} from the index?`)) return;
    button.disabled = true;
    const response = await fetch(`api/v1/documents/${button.dataset.id}`, { method: "DELETE" });
    if (!response.ok) { button.disabled = false; window.alert(await told(response)); }
  }

  // Every collection has a page of its own; the choice at the top leads from one to the other.
  async function go(choice) {
    const { value } = choice, { up } = choice.selectedOptions[0].dataset;
    if (value !== "+" && value !== "-") { window.location.href = value; return; }
    const here = [...choice.options].find((each) => each.defaultSelected);
    choice.value = here.value;
    if (value === "-") { discard(here.text, up); return; }
    const name = (window.prompt("Name of the new collection: letters, digits, . _ and -") || "").trim();
    if (!name) return;
    const body = JSON.stringify({ name }), headers = { "Content-Type": "application/json" };
    const response = await fetch("api/v1/collections", { method: "POST", body, headers });
    if (response.ok) window.location.href = `${up}c/${name}/`;
    else window.alert(await told(response));
  }

  async function discard(name, up) {
    const what = `The collection "${name}" goes with its documents, uploads and conversations. This cannot be undone.`;
    const typed = window.prompt(`${what}\nType its name to delete it:`);
    if (typed === null) return;
    if (typed.trim() !== name) { window.alert(`"${typed}" is not its name; nothing was deleted.`); return; }
    const response = await fetch(`${up}api/v1/collections/${name}`, { method: "DELETE" });
    if (response.ok) window.location.href = up;
    else window.alert(await told(response));
  }

  const choose = (id) => document.getElementById(id).click();
  const over = (event) => event.target.closest && event.target.closest("#fn-drop");

  document.addEventListener("click", (event) => {
    const at = event.target.closest ? event.target : event.target.parentElement;
    const mark = at.closest(".fn-mark"), button = at.closest(".fn-remove"), along = at.closest(".fn-step");
    const score = at.closest("a.fn-score"), trust = document.getElementById("fn-trust");
    if (score && trust) trust.open = true;
    if (mark) lead(mark);
    else if (along) step(Number(along.dataset.step));
    else if (button) remove(button);
    else if (at.closest("#fn-choose-folder")) { event.preventDefault(); choose("fn-folder"); }
    else if (at.closest("#fn-drop") && !at.closest("input")) choose("fn-files");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    const mark = event.target.closest && event.target.closest(".fn-mark");
    if (mark) { event.preventDefault(); lead(mark); }
    else if (event.target.id === "fn-drop") { event.preventDefault(); choose("fn-files"); }
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "fn-collection") { go(event.target); return; }
    if (event.target.id !== "fn-files" && event.target.id !== "fn-folder") return;
    send([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath })));
    event.target.value = "";
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!over(event)) return;
      event.preventDefault();
      over(event).classList.add("fn-over");
    });
  }
  document.addEventListener("dragleave", (event) => over(event) && over(event).classList.remove("fn-over"));
  document.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    over(event).classList.remove("fn-over");
    dropped(event);
  });
})();
