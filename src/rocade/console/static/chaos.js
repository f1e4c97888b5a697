// The "pull the plug" corner: buttons that break something, and what the senders count meanwhile.
import { fetchJson, listen, number, t } from "./live.js";

export function plugs(chosenVehicle) {
  const corner = document.getElementById("chaos");
  if (!corner) return;
  const by = (id) => document.getElementById(id);
  corner.querySelectorAll("[data-act]").forEach((button) => button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const said = await fetchJson("/live/chaos", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ act: button.dataset.act, vehicle: chosenVehicle() ?? "" }) });
      by("chaos-said").textContent = said.said || t("chaos.done");
    } catch (error) {
      by("chaos-said").textContent = `${t("chaos.failed")}: ${error.message}`;
    } finally { button.disabled = false; }
  }));
  listen("/live/chaos", {
    counts: ({ acked, lost, resent, missing }) => {
      by("acked").textContent = number(acked);
      by("resent").textContent = number(resent);
      by("missing").textContent = number(missing);
      by("missing").parentElement.classList.toggle("open", missing > 0);
      by("lost").textContent = number(lost);
      by("lost").classList.toggle("bad", lost > 0);
    },
  });
}
