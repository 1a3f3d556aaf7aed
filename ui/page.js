// What the page does in the browser beside what Gradio does: footnote marks lead to their sources, files are sent.
(() => {
  const say = (text) => { const at = document.getElementById("fn-upload"); if (at) at.textContent = text; };

  function lead(mark) {
    const number = mark.textContent;
    const places = [...document.querySelectorAll("#fn-sources .fn-number")];
    const found = places.find((each) => each.textContent === number);
    const card = found && found.closest(".fn-source, .fn-origin");
    if (!card) return;
    document.querySelectorAll(".fn-here").forEach((each) => each.classList.remove("fn-here"));
    card.classList.add("fn-here");
    (card.querySelector(".fn-box") || card).scrollIntoView({ block: "center", behavior: "smooth" });
  }

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
    request.open("POST", "api/v1/documents");
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
    if (choice.value !== "+") { window.location.href = choice.value; return; }
    const here = [...choice.options].find((each) => each.defaultSelected), { up } = choice.selectedOptions[0].dataset;
    choice.value = here.value;
    const name = (window.prompt("Name of the new collection: letters, digits, . _ and -") || "").trim();
    if (!name) return;
    const body = JSON.stringify({ name }), headers = { "Content-Type": "application/json" };
    const response = await fetch("api/v1/collections", { method: "POST", body, headers });
    if (response.ok) window.location.href = `${up}c/${name}/`;
    else window.alert(await told(response));
  }

  const choose = (id) => document.getElementById(id).click();
  const over = (event) => event.target.closest && event.target.closest("#fn-drop");

  document.addEventListener("click", (event) => {
    const at = event.target.closest ? event.target : event.target.parentElement;
    const mark = at.closest(".fn-mark"), button = at.closest(".fn-remove");
    const score = at.closest("a.fn-score"), trust = document.getElementById("fn-trust");
    if (score && trust) trust.open = true;
    if (mark) lead(mark);
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
