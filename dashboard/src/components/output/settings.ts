/** How a person likes the output to be shown, kept in this browser. */
type Setting = "wrap" | "times";

export const remembered = (setting: Setting): boolean => localStorage.getItem(`dms.output.${setting}`) === "on";

export function remember(setting: Setting, on: boolean): void {
  localStorage.setItem(`dms.output.${setting}`, on ? "on" : "off");
}
