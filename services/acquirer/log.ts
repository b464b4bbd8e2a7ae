import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { logUnavailable } from './errors.ts';
import { decodeLine, encodeLine } from './line.ts';

/** Records a page may hold at most; a page is read into memory at once. */
export const PAGE_LIMIT = 1000;
/** Longer than any record can be, given the limits on the fields of requests. */
const LINE_LIMIT_BYTES = 16 * 1024;
const BATCH_LIMIT_LINES = 1024;
const READ_CHUNK_BYTES = 1024 * 1024;

/** A record and its place in the log; positions start at 1 and have no gaps. */
export type Entry<R extends object> = { position: number } & R;

export type Log<R extends object> = {
  /** Resolves when the record is on disk. Rejects with a Problem, and for good, once a write or a sync has failed. */
  append(record: R): Promise<Entry<R>>;
  /** The durable records after a position, at most `limit` of them, read from the file. */
  read(after: number, limit: number): Promise<Entry<R>[]>;
  /** The position of the last durable record. */
  last(): number;
  /** Why the log cannot be written any more, or undefined. */
  failure(): Error | undefined;
  /** Bytes of an unfinished last line that were cut when the log was opened. */
  readonly cutBytes: number;
  /** Waits for what was appended, then closes the file. */
  close(): Promise<void>;
};

type Waiting<R extends object> = {
  line: Buffer;
  entry: Entry<R>;
  resolve: (entry: Entry<R>) => void;
  reject: (error: Error) => void;
};

/**
 * Opens an append-only log of JSON lines, replays it through `visit` in order, and cuts an unfinished last line.
 * Damage anywhere else means that acknowledged records are gone: then it throws and touches nothing.
 *
 * Appends that arrive while a sync is under way share the next one. After a failed write or sync the state of the
 * file is unknown (a later sync may succeed without the lost pages), so the log rejects every append until a restart
 * has read the file.
 */
export async function openLog<R extends object>(path: string, visit: (entry: Entry<R>) => void): Promise<Log<R>> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  const { starts, end, size } = await replay(file, path, visit).catch(async (error) => {
    await file.close();
    throw error;
  });
  if (size > end) await file.truncate(end);
  // The process that wrote these records may not have synced them, but responses rely on them from now on.
  await file.sync();
  await syncDirectory(dirname(path));
  return writableLog(file, starts, end, size - end);
}

function writableLog<R extends object>(file: FileHandle, starts: number[], end: number, cutBytes: number): Log<R> {
  let queue: Waiting<R>[] = [];
  let flushing: Promise<void> | undefined;
  let failure: Error | undefined;
  let closing = false;
  let durableEnd = end;
  let nextPosition = starts.length + 1;

  async function flush(): Promise<void> {
    while (queue.length > 0 && failure === undefined) {
      const batch = queue.splice(0, BATCH_LIMIT_LINES);
      try {
        await writeAll(file, Buffer.concat(batch.map(({ line }) => line)), durableEnd);
        await file.datasync();
      } catch (cause) {
        failure = new Error('the log could not be written', { cause });
        for (const { reject } of [...batch, ...queue]) reject(logUnavailable());
        queue = [];
        return;
      }
      for (const { line, entry, resolve } of batch) {
        starts.push(durableEnd);
        durableEnd += line.length;
        resolve(entry);
      }
    }
  }

  return {
    cutBytes,
    async append(record) {
      if (failure !== undefined || closing) throw logUnavailable();
      const entry: Entry<R> = { position: nextPosition, ...record };
      const line = encodeLine(entry);
      if (line.length > LINE_LIMIT_BYTES) throw new RangeError(`a record of ${line.length} bytes is over the limit`);
      nextPosition += 1;
      return new Promise((resolve, reject) => {
        queue.push({ line, entry, resolve, reject });
        flushing ??= flush().finally(() => {
          flushing = undefined;
        });
      });
    },
    async read(after, limit) {
      const until = Math.min(starts.length, after + Math.min(limit, PAGE_LIMIT));
      if (after >= until) return [];
      const from = starts[after]!;
      const bytes = await readAll(file, from, (starts[until] ?? durableEnd) - from);
      return splitLines(bytes).map((line) => {
        const entry = decodeLine(line);
        if (entry === undefined) throw new Error(`the log is damaged after position ${after}`);
        return entry as Entry<R>;
      });
    },
    last: () => starts.length,
    failure: () => failure,
    async close() {
      closing = true;
      await flushing;
      await file.close();
    },
  };
}

type Replayed = { starts: number[]; end: number; size: number };

/** Reads the file once, in chunks; `end` is where the last intact line ends and `size` is where the file does. */
async function replay<R extends object>(file: FileHandle, path: string, visit: (entry: Entry<R>) => void) {
  const starts: number[] = [];
  const chunk = Buffer.allocUnsafe(READ_CHUNK_BYTES);
  let end = 0;
  let size = 0;
  let damaged = false;
  let rest: Buffer = Buffer.alloc(0);
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, size);
    if (bytesRead === 0) return { starts, end, size } satisfies Replayed;
    size += bytesRead;
    const bytes = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
    const lines = splitLines(bytes);
    for (const line of lines) {
      const entry = decodeLine(line) as Entry<R> | undefined;
      damaged ||= entry === undefined;
      if (entry === undefined) continue;
      if (damaged || entry.position !== starts.length + 1) {
        throw new Error(`${path} is damaged at byte ${end}, before intact records; restore it from a copy`);
      }
      visit(entry);
      starts.push(end);
      end += line.length + 1;
    }
    rest = Buffer.from(bytes.subarray(lines.reduce((sum, line) => sum + line.length + 1, 0)));
    // No record is this long, so it is damage. Only its end is kept, to find where the next line starts.
    if (rest.length > LINE_LIMIT_BYTES) {
      damaged = true;
      rest = rest.subarray(rest.length - LINE_LIMIT_BYTES);
    }
  }
}

/** The complete lines of a buffer, without their line feeds; what follows the last line feed is left out. */
function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let feed = bytes.indexOf(10); feed !== -1; feed = bytes.indexOf(10, start)) {
    lines.push(bytes.subarray(start, feed));
    start = feed + 1;
  }
  return lines;
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function readAll(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) throw new Error('the log is shorter than it was written');
    done += bytesRead;
  }
  return bytes;
}

/** A new file survives a power failure only when the folder that names it is synced too. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
