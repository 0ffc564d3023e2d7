import { store, stored } from "./stored";

/** Which theme was chosen: `system` follows the operating system. */
export type Theme = "system" | "light" | "dark";

const KEY = "dms.theme";

export function storedTheme(): Theme {
  const found = stored("localStorage", KEY);
  return found === "light" || found === "dark" ? found : "system";
}

export function storeTheme(theme: Theme): void {
  store("localStorage", KEY, theme);
  applyTheme(theme);
}

export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}
