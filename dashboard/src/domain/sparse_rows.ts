/** A long list of which only the pages that were in sight are here: which to ask for, and what is known of each row. */

const MOST_PAGES = 24;

interface Page<Row> {
  rows: Row[];
  stale: boolean;
}

export class SparseRows<Row extends { job_id: string }> {
  total = 0;
  private readonly pages = new Map<number, Page<Row>>();

  constructor(readonly pageSize: number) {}

  get(index: number): Row | undefined {
    return this.pages.get(Math.floor(index / this.pageSize))?.rows[index % this.pageSize];
  }

  indexOf(jobId: string): number {
    for (const [page, { rows }] of this.pages) {
      const at = rows.findIndex((row) => row.job_id === jobId);
      if (at >= 0) return page * this.pageSize + at;
    }
    return -1;
  }

  /** Pages of rows `first` to `last` (excluded) that are not here, or may have changed; the nearest to the middle first. */
  wanted(first: number, last: number): number[] {
    const [from, to] = [Math.floor(first / this.pageSize), Math.floor(Math.max(first, last - 1) / this.pageSize)];
    const middle = (from + to) / 2;
    const found: number[] = [];
    for (let page = from; page <= to; page++) if (this.pages.get(page)?.stale !== false) found.push(page);
    return found.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
  }

  /** Pages far from `page` make room. */
  put(page: number, rows: Row[], total: number): void {
    this.total = total;
    this.pages.set(page, { rows, stale: false });
    if (this.pages.size > MOST_PAGES) {
      const farthest = [...this.pages.keys()].reduce((far, one) => (Math.abs(one - page) > Math.abs(far - page) ? one : far), page);
      this.pages.delete(farthest);
    }
    for (const known of this.pages.keys()) if (known * this.pageSize >= Math.max(1, total)) this.pages.delete(known);
  }

  /** Something has changed: rows go on being shown, and are asked for again once they are in sight. */
  expire(): void {
    for (const page of this.pages.values()) page.stale = true;
  }

  change(jobId: string, how: (row: Row) => Row): void {
    for (const page of this.pages.values()) page.rows = page.rows.map((row) => (row.job_id === jobId ? how(row) : row));
  }
}
