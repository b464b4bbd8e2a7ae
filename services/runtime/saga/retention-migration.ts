import type { Migration } from '../db/schema-change.ts';

/**
 * The history of sagas is append-only for the service's account. This procedure deletes the history of one saga for it,
 * and only of a deleted saga whose last entry is at least 90 days old.
 */
export const Migration20261127300000_saga_retention: Migration = {
  name: 'Migration20261127300000_saga_retention',
  up(change) {
    change.addProcedure(
      'purge_saga_log',
      'in purged char(36) character set ascii collate ascii_bin',
      `begin
        if not exists (select 1 from saga where saga_id = purged)
          and not exists (select 1 from saga_log
            where saga_id = purged and at > utc_timestamp(6) - interval 90 day) then
          delete from saga_log where saga_id = purged;
        end if;
      end`,
    );
  },
};
