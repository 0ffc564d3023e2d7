/** Claiming rewards: the DMS signs who gets what; it never moves money itself. */
import { useSignal, type Signal } from "@preact/signals";
import { get, send } from "../../api/client";
import { counted, ntx, plain } from "../../app/format";
import { useDoing } from "../../components/action";
import { Trouble } from "../../components/parts";
import { claimEach, sum, toClaim } from "./rewards";
import type { Reward, Transaction } from "../../api/answers";

export interface Claims {
  rewards: Signal<readonly Reward[]>;
  busy: Signal<boolean>;
  trouble: Signal<string>;
  claim: (jobId?: string) => Promise<void>;
}

/** Each claim is an event of its own. jobId: of one alone. */
export function useClaims(): Claims {
  const rewards = useSignal<readonly Reward[]>([]);
  const { busy, trouble, run } = useDoing();
  const claim = async (jobId?: string): Promise<void> => {
    rewards.value = [];
    await run(async () => {
      const open = toClaim((await get<Transaction[]>("/transactions", { hidden: true })).body); // the sum to claim counts them in too
      await claimEach(open.filter(({ job_id }) => jobId === undefined || job_id === jobId), async ({ tx_hash }) => {
        const reward = await send<Reward>("POST", "/transactions/request-reward", { tx_hash });
        rewards.value = [...rewards.value, reward];
      });
    });
  };
  return { rewards, busy, trouble, claim };
}

export function ClaimResult({ claims }: { claims: Claims }) {
  const found = claims.rewards.value;
  return (
    <>
      <Trouble text={claims.trouble.value} />
      {found.length > 0 && (
        <div class="notice" role="status" data-testid="claimed">
          <p>
            Claimed {ntx(sum(found.map(({ to_provider }) => to_provider)))} of {counted(found.length, "job")}. A DMS never moves
            money: under a contract, hand it the signed texts below; where you were paid to your own address already, nothing is left to do.
          </p>
          <details>
            <summary>Signed texts</summary>
            {found.map((reward) => <SignedTexts key={reward.job_id} reward={reward} />)}
          </details>
        </div>
      )}
    </>
  );
}

function SignedTexts({ reward }: { reward: Reward }) {
  const texts = [["datum", reward.datum], ["signature of datum", reward.signature_datum], ["action", reward.action], ["signature of action", reward.signature_action]] as const;
  return (
    <>
      <p>Job {plain(reward.job_id)}: {plain(reward.reward_type)}, {ntx(reward.to_provider)} to you, {ntx(reward.to_requester)} back.</p>
      {texts.map(([name, text]) => (
        <label class="field"><span>{name}</span><input readOnly value={plain(text)} onFocus={(event) => event.currentTarget.select()} /></label>
      ))}
    </>
  );
}
