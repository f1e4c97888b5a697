// Set the theme before the first paint: the stored choice, else the system's.
(() => {
  const stored = localStorage.getItem("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => { document.documentElement.dataset.theme = theme; };
  apply(stored || (dark.matches ? "dark" : "light"));
  document.documentElement.classList.add("scripted");
  dark.addEventListener("change", () => localStorage.getItem("theme") || apply(dark.matches ? "dark" : "light"));
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      localStorage.setItem("theme", theme);
      apply(theme);
      dispatchEvent(new Event("themechange"));
    });
    const language = document.getElementById("language");
    language?.addEventListener("change", () => language.form.submit());
  });
})();
