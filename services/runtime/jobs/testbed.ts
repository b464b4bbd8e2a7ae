/** A queue of notes, for the tests of the queue and the program that they kill. */
import { background } from '../context/background.ts';
import type { Database } from '../db/database.ts';
import type { Migration } from '../db/schema-change.ts';
import { createLogger } from '../telemetry/log.ts';
import { jobQueue, type QueueDefinition } from './queue.ts';
import { addQueueColumns } from './queue-columns.ts';

export const log = createLogger('test', 'silent');
export const open = background('test', log);

export const noteMigration: Migration = {
  name: 'Migration20261128000000_notes',
  up(change) {
    change.run(`
      create table if not exists note (
        note_id char(36) character set ascii collate ascii_bin not null,
        text varchar(100) not null,
        expires_at datetime(6) null,
        done_at datetime(6) null,
        primary key (note_id)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists effect (
        position bigint not null auto_increment, text varchar(100) not null, primary key (position)
      ) engine = InnoDB default charset = utf8mb4`);
    addQueueColumns(change, 'note');
    change.addIndex('note', 'note_created', '(state, created_at)');
  },
};

export interface NoteRow {
  note_id: string;
  text: string;
}

export const noteQueue = (changes: Partial<QueueDefinition> = {}) =>
  jobQueue<NoteRow>({
    name: 'notes',
    table: 'note',
    idColumn: 'note_id',
    doneState: 'DONE',
    doneAtColumn: 'done_at',
    retry: { maxAttempts: 3, initialBackoffMs: 1_000, maxBackoffMs: 60_000, maxElapsedMs: 3_600_000 },
    retention: { column: 'created_at', days: { DONE: 30 } },
    ...changes,
  });

/** The effect of a note, visible to other processes. */
export const writeEffect = (db: Database, text: string): Promise<unknown> =>
  db.write(null, (sql) => sql.execute('insert into effect (text) values (?)', [text]));
