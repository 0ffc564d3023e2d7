import "./styles/base.css";
import "uplot/dist/uPlot.min.css";
import { render } from "preact";
import { takeKey } from "./app/keys";
import { CurrentPage } from "./app/pages";
import { watchForNewerBuild } from "./app/newer_build";
import { followLinks } from "./app/router";
import { Shell } from "./app/shell";
import { openLive } from "./live/live";

document.addEventListener("click", followLinks);
document.addEventListener("keydown", takeKey);
openLive();
watchForNewerBuild();
const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<Shell><CurrentPage /></Shell>, root);
}
