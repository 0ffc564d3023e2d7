/** The list's filters, each in the address. */
import type { Ref } from "preact";
import type { Provider } from "../../api/answers";
import { plain, short } from "../../app/format";
import { queryValue, setQuery } from "../../app/router";
import { useView } from "../../app/view";
import { Trouble } from "../../components/parts";
import { areFiltered, CLEARED, ORDERS, PERIODS } from "./filters";


const MOST_PROVIDERS = 200;

export function FilterBar({ search }: { search: Ref<HTMLInputElement> }) {
  const providers = useView<{ items: Provider[] }>("/providers", { query: { limit: MOST_PROVIDERS } });
  const known = providers.answer.value?.body.items ?? [];
  const [peer, status] = [queryValue("peer"), queryValue("status")];
  const peers = known.filter(({ own }) => !own).map(({ provider }) => provider);
  if (peer && !peers.includes(peer)) peers.unshift(peer);
  return (
    <form class="row filters wide" role="search" onSubmit={(event) => event.preventDefault()}>
      <input ref={search} type="search" maxLength={200} placeholder="Search id, image, provider, reason" aria-label="Search" value={queryValue("q")} onInput={({ currentTarget }) => setQuery({ q: currentTarget.value })} />
      <Choice label="State" value={status} options={[["", "any state"], ...STATES, ...(STATES.some(([value]) => value === status) || !status ? [] : [[status, status.replaceAll(",", ", ")] as const])]} take={(value) => setQuery({ status: value })} />
      <Choice label="Provider" value={peer} options={[["", "any provider"], ...peers.map((id) => [id, plain(short(id))] as const)]} take={(value) => setQuery({ peer: value })} />
      <Choice label="Asked for" value={queryValue("within")} options={PERIODS.map(([value, name]) => [value, name] as const)} take={(value) => setQuery({ within: value })} />
      <Choice label="Order" value={queryValue("order")} options={ORDERS} take={(value) => setQuery({ order: value })} />
      {areFiltered() && <button type="button" onClick={() => setQuery(CLEARED, false)}>Clear filters</button>}
      <Trouble text={providers.error.value && `Not all providers can be chosen: ${providers.error.value}`} retry={providers.reload} />
    </form>
  );
}

const STATES: readonly (readonly [string, string])[] = ["awaiting", "funding", "submitted", "running", "retrying", "completed", "failed", "expired"].map((state) => [state, state]);

function Choice({ label, value, options, take }: { label: string; value: string; options: readonly (readonly [string, string])[]; take: (value: string) => void }) {
  return (
    <select aria-label={label} value={value} onChange={({ currentTarget }) => take(currentTarget.value)}>
      {options.map(([one, name]) => <option key={one} value={one} selected={one === value}>{name}</option>)}
    </select>
  );
}
