/** Whether the page is as narrow as a phone's. */
import { signal } from "@preact/signals";

const width = matchMedia("(max-width: 640px)");
export const narrow = signal(width.matches);
width.addEventListener("change", () => (narrow.value = width.matches));
