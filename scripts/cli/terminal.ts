import { styleText } from 'node:util';

export type Style = Parameters<typeof styleText>[0];

/** What decides about colour and movement: the stream and the variables of the environment. */
export interface Surroundings {
  stream: { isTTY?: boolean };
  env: NodeJS.ProcessEnv;
}

/**
 * Colours a text on a terminal. Never where NO_COLOR is set (https://no-color.org) or TERM is "dumb": FORCE_COLOR, which
 * Node itself prefers, does not change that.
 */
export function paint(
  style: Style,
  text: string,
  { stream, env }: Surroundings = { stream: process.stdout, env: process.env },
): string {
  if (!stream.isTTY || env.NO_COLOR || env.TERM === 'dumb') return text;
  return styleText(style, text, { validateStream: false });
}

/** The columns of the terminal; without one, lines may be as long as they are. */
export function terminalWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY;
}

/** How long a wait lasts before it is named. */
const noticeAfterMs = 2_000;
const clearLine = '\r\u001b[K';

/**
 * Waits for `work`. On a terminal the wait is named after two seconds, with the seconds so far, and the line disappears
 * when the work ends. Elsewhere nothing is written, so that standard error holds problems only.
 */
export async function withNotice<T>(what: string, work: () => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY || process.env.TERM === 'dumb') return work();
  const start = performance.now();
  let shown = false;
  const show = () => {
    const seconds = Math.floor((performance.now() - start) / 1000);
    if (seconds * 1000 < noticeAfterMs) return;
    shown = true;
    process.stderr.write(`${clearLine}waiting for ${what} (${seconds} s)`);
  };
  const timer = setInterval(show, 500);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (shown) process.stderr.write(clearLine);
  }
}
