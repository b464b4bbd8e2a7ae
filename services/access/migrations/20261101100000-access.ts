import type { Migration, SchemaChange } from '@armature/runtime/migrations';

const name = (length: number) => `varchar(${length}) character set ascii collate ascii_bin`;
// UUIDs may come in either case and mean the same, so their columns keep ASCII's default collation.
const uuid = 'char(36) character set ascii collate ascii_general_ci';
const table = 'engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin';

export const Migration20261101100000_access: Migration = {
  name: 'Migration20261101100000_access',
  up(change) {
    addPolicy(change);
    addHistory(change);
  },
};

function addPolicy(change: SchemaChange): void {
  // Roles, and workloads that have rules of their own.
  change.run(`
    create table if not exists policy_role (
      name ${name(80)} not null,
      updated_at datetime(6) not null,
      primary key (name)
    ) ${table}`);
  change.run(`
    create table if not exists policy_rule (
      subject ${name(80)} not null,
      permission ${name(98)} not null,
      scope ${name(16)} not null,
      primary key (subject, permission),
      constraint policy_rule_of_role foreign key (subject) references policy_role (name)
    ) ${table}`);
  // The state says what the policy in force makes of a grant, so that the policy follows from rows alone and not
  // from the time at which they are read: WAITING for its start, LIVE, or ENDED.
  change.run(`
    create table if not exists role_grant (
      grant_id ${uuid} not null,
      member ${name(80)} not null,
      role ${name(80)} not null,
      state ${name(8)} not null,
      start_at datetime(6) null,
      end_at datetime(6) null,
      granted_by varchar(128) not null,
      created_at datetime(6) not null,
      revoked_at datetime(6) null,
      revoked_by varchar(128) not null default '',
      version bigint not null,
      primary key (grant_id),
      key role_grant_start (state, start_at),
      key role_grant_end (state, end_at),
      key role_grant_member (member, grant_id),
      key role_grant_role (role, grant_id)
    ) ${table}`);
  // Whom identity reported as deactivated or erased.
  change.run(`
    create table if not exists denied_subject (
      subject ${name(80)} not null,
      end_at datetime(6) null,
      created_at datetime(6) not null,
      primary key (subject),
      key denied_subject_end (end_at)
    ) ${table}`);
  // One row, which every change locks. It holds the whole text, so that one read gets one version of it.
  change.run(`
    create table if not exists policy_head (
      id tinyint unsigned not null,
      version bigint not null,
      digest ${name(64)} not null,
      administered tinyint(1) not null,
      text mediumtext character set ascii collate ascii_bin not null,
      primary key (id)
    ) ${table}`);
  // Version 0 is no policy yet. The row is there from the start, so that instances that start together lock it.
  change.run(`
    insert into policy_head (id, version, digest, administered, text) values (1, 0, '', 0, '')
    on duplicate key update id = id`);
}

function addHistory(change: SchemaChange): void {
  change.run(`
    create table if not exists policy_version (
      version bigint not null,
      digest ${name(64)} not null,
      changed_by varchar(128) not null,
      changed varchar(500) not null,
      changed_at datetime(6) not null,
      primary key (version)
    ) ${table} comment = 'append-only: what changed the policy'`);
  // One index for each filter of the list; each ends with the position, which is the order of the list.
  change.run(`
    create table if not exists decision (
      position bigint unsigned not null auto_increment,
      decision_id ${uuid} not null,
      service varchar(80) not null,
      workload varchar(80) not null,
      subject varchar(80) not null,
      permission varchar(98) not null,
      target varchar(190) not null,
      allowed tinyint(1) not null,
      reason varchar(300) not null,
      policy_version varchar(64) not null,
      call_id varchar(64) not null,
      count int not null,
      decided_at datetime(6) not null,
      recorded_at datetime(6) not null,
      primary key (position),
      unique key decision_once (decision_id),
      key decision_service (service, position),
      key decision_subject (subject, position),
      key decision_permission (permission, position),
      key decision_allowed (allowed, position)
    ) ${table} comment = 'append-only: what services decided'`);
}
