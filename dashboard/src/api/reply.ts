/** What the API answered, before it is understood. */
export interface Reply {
  text: string;
  /** Of the log, that it shows; 0: it says none. */
  position: number;
  /** Of a list, without its page. */
  total: number;
  /** The version, where there is one. */
  tag: string;
}

export function replyOf({ headers }: Response, text: string): Reply {
  return {
    text,
    position: Number(headers.get("x-position") ?? 0),
    total: Number(headers.get("x-total") ?? 0),
    tag: headers.get("etag") ?? "",
  };
}
