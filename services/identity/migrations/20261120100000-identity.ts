import type { Migration } from '@armature/runtime/migrations';

const id = 'varchar(64) character set ascii collate ascii_bin';

export const Migration20261120100000_identity: Migration = {
  name: 'Migration20261120100000_identity',
  up(change) {
    // An address belongs to the account that has verified it: only verified_email is unique. Rows of state DECOY are what a
    // registration of a taken address leaves, so that its cost is the same; a periodic job deletes them.
    change.run(`
      create table if not exists account (
        user_id ${id} not null,
        email varchar(254) null,
        email_key varchar(254) character set utf8mb4 collate utf8mb4_bin null,
        verified_email varchar(254) character set utf8mb4 collate utf8mb4_bin null,
        display_name varchar(100) null,
        password_hash varchar(255) character set ascii collate ascii_bin null,
        state varchar(16) character set ascii collate ascii_bin not null,
        sequence bigint not null,
        created_at datetime(6) not null,
        updated_at datetime(6) not null,
        primary key (user_id),
        unique key account_email (verified_email),
        key account_address (email_key),
        key account_age (created_at, user_id)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists oidc_client (
        client_id ${id} not null,
        kind varchar(16) character set ascii collate ascii_bin not null,
        display_name varchar(100) not null,
        metadata_json text not null,
        disabled boolean not null default false,
        created_by varchar(80) not null,
        created_at datetime(6) not null,
        primary key (client_id)
      ) engine = InnoDB default charset = utf8mb4`);
    // Codes, tokens, sessions and grants. Identifiers are hashed and payloads sealed: a copy of this table opens nothing.
    change.run(`
      create table if not exists artifact (
        model varchar(32) character set ascii collate ascii_bin not null,
        id_hash binary(32) not null,
        uid_hash binary(32) null,
        grant_hash binary(32) null,
        user_id ${id} null,
        client_id varchar(64) null,
        payload mediumblob not null,
        consumed_at datetime(6) null,
        created_at datetime(6) not null,
        expires_at datetime(6) not null,
        primary key (model, id_hash),
        key artifact_uid (uid_hash),
        key artifact_grant (grant_hash),
        key artifact_user (user_id, model),
        key artifact_client (client_id, model),
        key artifact_expiry (expires_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists signing_key (
        kid varchar(64) character set ascii collate ascii_bin not null,
        public_jwk text not null,
        private_jwk varbinary(1000) not null,
        activates_at datetime(6) not null,
        created_at datetime(6) not null,
        primary key (kid)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(
      'create table if not exists signing_key_turn (turn tinyint not null, primary key (turn)) engine = InnoDB',
    );
    change.run('insert into signing_key_turn (turn) values (1) on duplicate key update turn = turn');
    // A mail to send, and what its link may still do. No token is kept: it is worked out when the mail is sent.
    change.run(`
      create table if not exists letter (
        letter_id char(36) character set ascii collate ascii_bin not null,
        kind varchar(32) character set ascii collate ascii_bin not null,
        user_id ${id} null,
        recipient varchar(254) not null,
        recipient_key varchar(254) character set utf8mb4 collate utf8mb4_bin not null,
        state varchar(16) character set ascii collate ascii_bin not null,
        attempts int not null default 0,
        last_error varchar(500) not null default '',
        lease_token bigint not null default 0,
        lease_expires_at datetime(6) null,
        next_attempt_at datetime(6) not null,
        created_at datetime(6) not null,
        expires_at datetime(6) not null,
        used_at datetime(6) null,
        primary key (letter_id),
        key letter_due (state, next_attempt_at),
        key letter_recipient (recipient_key, created_at),
        key letter_user (user_id),
        key letter_expiry (expires_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists attempt (
        subject_hash binary(32) not null,
        failures int not null,
        attempted_at datetime(6) not null,
        primary key (subject_hash),
        key attempt_age (attempted_at)
      ) engine = InnoDB default charset = utf8mb4`);
    change.run(`
      create table if not exists sign_in (
        position bigint not null auto_increment,
        user_id ${id} not null,
        client_id varchar(64) not null,
        source varchar(45) character set ascii not null,
        created_at datetime(6) not null,
        primary key (position),
        key sign_in_user (user_id, position),
        key sign_in_age (created_at)
      ) engine = InnoDB default charset = utf8mb4`);
  },
};
