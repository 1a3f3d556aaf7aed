"use strict";
const cases = [...document.querySelectorAll("details.case")];
const texts = cases.map((each) => each.textContent.toLowerCase());
const words = document.getElementById("words");
const shown = document.getElementById("shown");

function fits(each, text, status) {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = each.dataset.status.split("|").filter(Boolean);
  const right = status === "" || (status === "*" ? new Set(found).size > 1 : found.includes(status));
  return right && wanted.every((word) => text.includes(word));
}

function filter() {
  const status = document.querySelector("input[name=status]:checked").value;
  let n = 0;
  cases.forEach((each, i) => {
    each.hidden = !fits(each, texts[i], status);
    n += each.hidden ? 0 : 1;
  });
  shown.textContent = `${n.toLocaleString("en")} of ${cases.length.toLocaleString("en")}`;
  document.getElementById("nothing").hidden = n > 0;
}

document.getElementById("filter").addEventListener("input", filter);
document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
filter();
