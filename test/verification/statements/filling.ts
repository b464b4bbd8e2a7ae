import type { Connection, RowDataPacket } from 'mysql2/promise';

interface Column {
  name: string;
  dataType: string;
  length: number | null;
  nullable: 'YES' | 'NO';
  extra: string;
  columnType: string;
}

/** Tables that stay small in every shop, or are filled through others. */
const small = new Set([
  'account_balance',
  'lease',
  'migration',
  'oidc_client',
  'policy_head',
  'policy_role',
  'policy_rule',
  'reconciliation_difference',
  'reconciliation_position',
  'signing_key',
  'signing_key_turn',
]);

/**
 * Values of columns with few distinct values, in a shop that has run for a long time: all work is done. No row is due,
 * so a job that finds its work by an index reads almost no rows.
 */
const values: Record<string, string> = {
  'account.state': "'ACTIVE'",
  'artifact.model': "'AccessToken'",
  'dead_letter.consumer': "'notifications.orders.order'",
  'dead_letter.type': "'armature.orders.v1.OrderConfirmed'",
  'dead_letter.redriven_at': 'utc_timestamp(6)',
  'decision.permission': "'orders.read'",
  'decision.service': "'orders'",
  'denied_subject.end_at': 'utc_timestamp(6) - interval i second',
  'denied_subject.ended_at': 'utc_timestamp(6)',
  'delivery.state': "'SENT'",
  'delivery.template': "'RECEIPT'",
  'idempotency.method': "'/armature.orders.v1.OrderService/PlaceOrder'",
  'inbox.consumer': "'notifications.orders.order'",
  'inbox.type': "'armature.orders.v1.OrderConfirmed'",
  'inbox_sequence.aggregate': "'order'",
  'inbox_sequence.consumer': "'notifications.orders.order'",
  'ledger_entry.kind': "'CAPTURE'",
  'ledger_posting.account': "'revenue'",
  'ledger_posting.currency_code': "'EUR'",
  'letter.kind': "'VERIFY'",
  'letter.state': "'SENT'",
  'movement.kind': "'RECEIVE'",
  'operator_action.method': "'/armature.ops.v1.OpsService/RedriveDeadLetters'",
  'orders.state': "'COMPLETED'",
  'outbox.aggregate': "'order'",
  'outbox.published_at': 'utc_timestamp(6) - interval i second',
  'outbox.type': "'armature.orders.v1.OrderConfirmed'",
  'payment.state': "'CAPTURED'",
  'payment.refunded_minor': '0',
  'payment.refunding_minor': '0',
  'payment_operation.kind': "'capture'",
  'payment_operation.state': "'DONE'",
  'product.state': "'ACTIVE'",
  'reservation.state': "'COMMITTED'",
  'role_grant.role': "'role:customer'",
  'role_grant.state': "'ENDED'",
  'saga.name': "'checkout'",
  'saga.status': "'COMPLETED'",
  'saga.definition_version': '1',
  'saga.state': "'{}'",
  'saga_log.kind': "'outcome'",
};

const future = /^(expires_at|end_at|start_at|next_attempt_at|resolve_at|deadline_at|activates_at|due_at)$/;

export async function tablesOf(connection: Connection, schema: string): Promise<string[]> {
  const [tables] = await connection.query<RowDataPacket[]>(
    "select table_name as name from information_schema.tables where table_schema = ? and table_type = 'BASE TABLE'",
    [schema],
  );
  return tables.map(({ name }) => name);
}

/** Fills the tables that grow with the shop. */
export async function fillTables(
  connection: Connection,
  schema: string,
  tables: readonly string[],
  rows: number,
): Promise<void> {
  await connection.query('use ??', [schema]);
  await connection.query('set global innodb_flush_log_at_trx_commit = 0');
  // Synthetic rows keep neither references nor sums; what is looked at here is how rows are found.
  await connection.query('set session foreign_key_checks = 0, unique_checks = 0');
  await connection.query('set session check_constraint_checks = 0, max_recursive_iterations = 10000000');
  for (const table of tables) {
    if (!small.has(table)) await fillTable(connection, schema, table, rows);
  }
}

async function fillTable(connection: Connection, schema: string, table: string, rows: number): Promise<void> {
  const [columns] = await connection.query<(Column & RowDataPacket)[]>(
    `select column_name as name, data_type as dataType, character_maximum_length as length, is_nullable as nullable,
       extra, column_type as columnType
     from information_schema.columns where table_schema = ? and table_name = ? order by ordinal_position`,
    [schema, table],
  );
  const filled = columns.filter(({ extra }) => !/auto_increment|generated/i.test(extra));
  await connection.query(
    `insert ignore into ${table} (${filled.map(({ name }) => name).join(', ')})
     with recursive n as (select 1 as i union all select i + 1 from n where i < ${rows})
     select ${filled.map((column) => valueFor(table, column)).join(', ')} from n`,
  );
  await connection.query(`analyze table ${table}`);
  const [[counted]] = await connection.query<RowDataPacket[]>(`select count(*) as n from ${table}`);
  if (Number(counted?.n) < rows * 0.9) throw new Error(`${table} has ${counted?.n} rows after being filled`);
}

function valueFor(table: string, column: Column): string {
  const { name, dataType, length } = column;
  const given = values[`${table}.${name}`];
  if (given !== undefined) return given;
  if (column.nullable === 'YES') return 'null';
  if (/^(state|status|kind)$/.test(name)) {
    throw new Error(
      `add to filling.ts the value that ${table}.${name} has in most rows of a shop that has run for a long time`,
    );
  }
  switch (dataType) {
    case 'char':
      // Ordered by i, and later than any present UUIDv7, so that no age limit has passed.
      return length === 36
        ? "concat('ff', lpad(hex(i), 6, '0'), '-0000-7000-8000-', lpad(hex(i), 12, '0'))"
        : `left('EUR', ${length})`;
    case 'varchar':
      return `left(concat('v', i), ${length})`;
    case 'binary':
      return `left(unhex(sha2(concat('${name}', i), 512)), ${length})`;
    case 'varbinary':
      return "'x'";
    case 'datetime':
      return future.test(name)
        ? 'utc_timestamp(6) + interval (1000 + i) second'
        : 'utc_timestamp(6) - interval i second';
    case 'bigint':
      return 'i';
    case 'int':
    case 'smallint':
    case 'tinyint':
      return '1';
    case 'enum':
      return '1';
    default:
      return "'{}'";
  }
}
