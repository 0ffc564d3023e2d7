/** Connected peers and known providers as one list: who is connected first, the nearest first. */
import type { ConnectedPeer, Provider } from "../api/answers";

export interface PeerRow {
  peerId: string;
  own: boolean;
  connected: ConnectedPeer | null;
  provider: Provider | null;
  isDefault: boolean;
}

export function peerRows(connected: readonly ConnectedPeer[], providers: readonly Provider[], defaultProvider: string): PeerRow[] {
  const byPeer = new Map<string, PeerRow>();
  const of = (peerId: string): PeerRow => {
    const found = byPeer.get(peerId) ?? { peerId, own: false, connected: null, provider: null, isDefault: peerId === defaultProvider };
    byPeer.set(peerId, found);
    return found;
  };
  for (const peer of connected) of(peer.ID).connected = peer;
  for (const provider of providers) if (provider.channel) Object.assign(of(provider.provider), { provider, own: provider.own });
  if (defaultProvider) of(defaultProvider);
  return [...byPeer.values()].sort((one, other) => rank(one) - rank(other) || one.peerId.localeCompare(other.peerId));
}

/** The default first, then by distance; who is not connected comes last, this node itself before them. */
function rank({ isDefault, own, connected }: PeerRow): number {
  if (isDefault) return -1;
  if (connected) return connected.rtt_ms ?? 1e9;
  return own ? 2e9 : 3e9;
}

/** Of those that are known; null where none is. */
export function median(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null).sort((one, other) => one - other);
  return known.length === 0 ? null : (known[Math.floor(known.length / 2)] ?? null);
}
