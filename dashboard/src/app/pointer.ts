/** Whether a mouse button or a finger is down: what moves then is not where the click is going to be. */
let isDown = false;

addEventListener("pointerdown", () => (isDown = true), true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (isDown = false), true);

/** Now, or once the click that is under way has reached what it was meant for. */
export function afterClick(act: () => void): void {
  if (!isDown) return act();
  const later = () => {
    removeEventListener("pointerup", later, true);
    removeEventListener("pointercancel", later, true);
    setTimeout(act);
  };
  addEventListener("pointerup", later, true);
  addEventListener("pointercancel", later, true);
}
