// What is new about commands and states, in one sentence for who listens to the page: never the whole card again.
const known = new Map();

const step = (command) => (command.querySelector(".life [aria-current], .life .step-bad, .life .step-gone") ?? command.querySelector(".life li:last-child"))?.querySelector("span")?.textContent ?? "";

/** Say what differs from the last time. `title`: the state above the commands, '' = none. */
export function tell(title = "") {
  const isFirst = !known.size, news = [];
  const look = (key, text) => { if (text && known.get(key) !== text) news.push(text); known.set(key, text); };
  look("title", title);
  for (const one of document.querySelectorAll("#commands .command")) look(one.dataset.id, `${one.querySelector("b").textContent}: ${step(one)}`);
  if (news.length && !isFirst) document.getElementById("charge-said").textContent = news.join(". ");
}
