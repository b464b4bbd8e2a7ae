import type { Connection, RowDataPacket } from 'mysql2/promise';

/** The shop as an auditor sees it: every schema, and the acquirer's own log. */
export interface World {
  /** The services whose schemas are there. */
  readonly services: readonly string[];
  /** Runs a query over all schemas: `{orders}.saga` is the table saga of orders. */
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Runs a query in the schema of one service, whose tables need no schema before them. */
  within(service: string, sql: string, params?: readonly unknown[]): Promise<any[]>;
  /** Where the acquirer answers. */
  readonly acquirerUrl: string;
  /** How long work may still be under way before it counts as left behind; 0 where everything has come to rest. */
  readonly graceSeconds: number;
}

export interface WorldOptions {
  /** An administrator's connection, which may read every schema. It is used by one query at a time. */
  connection: Connection;
  /** Schema by service. */
  schemas: Readonly<Record<string, string>>;
  acquirerUrl: string;
  graceSeconds: number;
}

export function openWorld({ connection, schemas, acquirerUrl, graceSeconds }: WorldOptions): World {
  const schemaOf = (service: string): string => {
    const schema = schemas[service];
    if (!schema) throw new Error(`there is no schema of ${service}`);
    return `\`${schema}\``;
  };
  const run = async <Row>(sql: string, params: readonly unknown[]): Promise<Row[]> => {
    const [rows] = await connection.query<RowDataPacket[]>({ sql, values: [...params], dateStrings: true });
    return rows as Row[];
  };
  return {
    services: Object.keys(schemas).sort(),
    query: (sql, params = []) =>
      run(
        sql.replace(/\{(\w+)\}/g, (_, service: string) => schemaOf(service)),
        params,
      ),
    async within(service, sql, params = []) {
      await connection.query(`use ${schemaOf(service)}`);
      return run(sql, params);
    },
    acquirerUrl,
    graceSeconds,
  };
}
