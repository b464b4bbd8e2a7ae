import { hash } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from '../telemetry/log.ts';

/** The content of a copy, and the time since its source confirmed it. */
export interface CopyFound {
  readonly bytes: Buffer;
  /** A text of the writer, such as a version. */
  readonly note: string;
  /** Milliseconds. */
  readonly age: number;
}

/** The last good version of some content, on disk for a start without its source. */
export interface LastGoodCopy {
  /** Returns null when there is no copy. Throws when it is damaged, or has a modification time in the future. */
  read(): Promise<CopyFound | null>;
  /**
   * Replaces the copy; a reader sees the old or the new one, complete. A failure is logged, and repeated with the next
   * confirmation: the copy is only a reserve, so no caller waits for it.
   */
  write(bytes: Uint8Array, note: string): void;
  /** Records that the source has just confirmed the content written or read last. Writes at most every 3 s. */
  confirm(): void;
  /** Resolves once all writes are complete. */
  flushed(): Promise<void>;
}

const confirmEveryMs = 3_000;
/** File times may be rounded up. A copy with a later time than this is from the future, and its age is unknown. */
const roundingMs = 1_000;
const maxBytes = 17 * 1024 * 1024;

/**
 * Keeps a copy in a file with a first line of checksum and note; its modification time is the last confirmation of its
 * content. Readable by this user only, in a folder with the same permissions. One process uses one file.
 */
export function lastGoodCopy(file: string, log: Logger, now: () => number = Date.now): LastGoodCopy {
  let confirmedAt = Number.NEGATIVE_INFINITY;
  let failing = false;
  // At most one write is in progress and one waits, the newest.
  let waiting: { content: Content | null; at: number } | null = null;
  let unwritten: Content | null = null;
  let working: Promise<void> | null = null;
  const work = async (): Promise<void> => {
    for (let next = waiting; next; next = waiting) {
      waiting = null;
      try {
        if (next.content) await replace(file, next.content, next.at);
        else await utimes(file, seconds(next.at), seconds(next.at));
        failing = false;
      } catch (error) {
        if (!failing) log.warn({ err: error, file }, 'the copy was not kept');
        failing = true;
        // A confirmation must not make an older file look fresh, so content that was not written is written with it.
        unwritten = next.content ?? unwritten;
      }
    }
    working = null;
  };
  const put = (content: Content | null): void => {
    confirmedAt = now();
    waiting = { content: content ?? waiting?.content ?? unwritten, at: confirmedAt };
    unwritten = null;
    working ??= work();
  };
  return {
    async read() {
      const found = await stat(file).catch(absent);
      if (!found) return null;
      const age = now() - found.mtimeMs;
      if (age < -roundingMs) throw new Error(`${file} bears a time that has not come yet`);
      if (found.size > maxBytes) throw new Error(`${file} is longer than ${maxBytes} bytes`);
      return { ...split(await readFile(file), file), age: Math.max(age, 0) };
    },
    write: (bytes, note) => put({ bytes, note }),
    confirm() {
      const since = now() - confirmedAt;
      // When the clock was set back, the time of the file must not stay in the future.
      if (since < 0 || since >= confirmEveryMs) put(null);
    },
    async flushed() {
      await working;
    },
  };
}

interface Content {
  bytes: Uint8Array;
  note: string;
}

const seconds = (ms: number): number => Math.floor(ms) / 1000;
const sha256 = (bytes: Uint8Array): string => hash('sha256', bytes, 'hex');

/** Returns the content after the first line, when its checksum matches. */
function split(whole: Buffer, file: string): { bytes: Buffer; note: string } {
  const end = whole.indexOf('\n');
  const [checksum, ...note] = whole.subarray(0, Math.max(end, 0)).toString('latin1').split(' ');
  const bytes = whole.subarray(end + 1);
  if (end < 0 || checksum !== sha256(bytes)) throw new Error(`${file} is damaged: its checksum is another`);
  return { bytes, note: note.join(' ') };
}

async function replace(file: string, { bytes, note }: Content, at: number): Promise<void> {
  const beside = `${file}.${process.pid}`;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  try {
    const handle = await open(beside, 'w', 0o600);
    try {
      await handle.writeFile(Buffer.concat([Buffer.from(`${sha256(bytes)} ${note}\n`, 'latin1'), bytes]));
      await handle.utimes(seconds(at), seconds(at));
      await handle.sync();
    } finally {
      await handle.close();
    }
    // A file that another process with this id left behind keeps its mode.
    await chmod(beside, 0o600);
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

/** A missing file is not an error. */
function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}
