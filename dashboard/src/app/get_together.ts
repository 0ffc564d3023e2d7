/** What several pages ask for after an event. */
import { address, answerOf, get, type Answer } from "../api/client";
import { askTogether } from "../live/live";

/** toShow: the newest event that the answer has to show, by its position; 0: an answer that others asked for won't do. */
export async function getTogether<T>(path: string, query: Parameters<typeof address>[1], toShow: number, signal: AbortSignal): Promise<Answer<T>> {
  const reply = toShow ? await askTogether(address(path, query), toShow) : null;
  return reply ? answerOf<T>(reply) : get<T>(path, query, signal);
}
