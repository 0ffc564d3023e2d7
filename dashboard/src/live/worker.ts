// The SharedWorker: browsers allow few connections to one origin, so all pages share one socket.
import { Hub, liveAddress, TICK_MS } from "./hub";
import type { FromPage, ToPage } from "./protocol";
import type { Port } from "./tab";

const scope = self as unknown as SharedWorkerGlobalScope;
const hub = new Hub(() => new WebSocket(liveAddress(scope.location)));

scope.onconnect = (event) => {
  const channel = event.ports[0];
  if (!channel) return;
  const port: Port = { post: (message: ToPage) => channel.postMessage(message) };
  channel.onmessage = ({ data }: MessageEvent<FromPage>) => hub.take(port, data);
  hub.join(port);
};
setInterval(() => hub.tick(), TICK_MS);
scope.addEventListener("online", () => hub.check());
