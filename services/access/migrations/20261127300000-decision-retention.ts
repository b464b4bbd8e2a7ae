import type { Migration } from '@armature/runtime/migrations';

/**
 * Decisions are append-only for the service's account. This procedure deletes the oldest for it: a thousand at a time,
 * and none that is younger than 90 days.
 */
export const Migration20261127300000_decision_retention: Migration = {
  name: 'Migration20261127300000_decision_retention',
  up(change) {
    change.addProcedure(
      'purge_decisions',
      'in kept_days int',
      `begin
        declare newest bigint unsigned;
        set newest = (
          select max(position) from (select position, recorded_at from decision order by position limit 1000) oldest
          where recorded_at < utc_timestamp(6) - interval greatest(coalesce(kept_days, 90), 90) day);
        delete from decision where position <= newest and recorded_at < utc_timestamp(6) - interval 90 day;
      end`,
    );
  },
};
