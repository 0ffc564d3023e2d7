import { store, stored } from "../../app/stored";

/** How a person likes the output to be shown, kept in this browser. */
type Setting = "wrap" | "times";

export const remembered = (setting: Setting): boolean => stored("localStorage", `dms.output.${setting}`) === "on";

export function remember(setting: Setting, on: boolean): void {
  store("localStorage", `dms.output.${setting}`, on ? "on" : "off");
}
