import type { Migration } from '@armature/runtime/migrations';

/**
 * What people see of their sessions. A session is named by the hash that its artifact has as well, and a row opens
 * nothing. Sessions that are stored already get their clients at their next visit; a process of the release before does
 * not write the table.
 */
export const Migration20261128710000_identity_login_session: Migration = {
  name: 'Migration20261128710000_identity_login_session',
  up(change) {
    change.run(`
      create table if not exists login_session (
        session_hash binary(32) not null,
        user_id varchar(64) character set ascii collate ascii_bin not null,
        client_ids text character set ascii collate ascii_bin not null,
        signed_in_at datetime(6) not null,
        last_used_at datetime(6) not null,
        ended_at datetime(6) null,
        expires_at datetime(6) not null,
        primary key (session_hash),
        key login_session_user (user_id, signed_in_at, session_hash),
        key login_session_expiry (expires_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      insert into login_session (session_hash, user_id, client_ids, signed_in_at, last_used_at, expires_at)
        select uid_hash, user_id, '', created_at, created_at, expires_at from artifact
        where model = 'Session' and uid_hash is not null and user_id is not null
      on duplicate key update session_hash = session_hash`);
  },
};
