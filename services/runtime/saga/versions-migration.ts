import { Migration } from '@mikro-orm/migrations';

const text = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;

/**
 * Which version of its definition a saga runs, and where it waits: `dependency` is the service that its next command
 * calls (empty: none, or several), `urgent` puts compensations, cancellations and sagas past their pivot before new
 * ones. Processes of before insert rows without these columns; the defaults are right for them.
 */
export class Migration20261127000000_saga_versions extends Migration {
  override up(): void {
    // One statement, so that an interruption leaves all of it or nothing.
    this.addSql(`
      alter table saga
        add column definition_version int unsigned not null default 1 after name,
        add column dependency ${text(64)} not null default '' after due_at,
        add column urgent tinyint unsigned not null default 0 after dependency,
        add key saga_lane (name, definition_version, dependency, urgent, due_at)`);
  }
}
