import type { Connection, RowDataPacket } from 'mysql2/promise';

/** Read access to all data of the shop: every schema, and the acquirer's log. */
export interface ShopData {
  /** The services whose schemas exist. */
  readonly services: readonly string[];
  /** Runs a query over all schemas: `{orders}.saga` is the table saga of orders. */
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Row[]>;
  /** Runs a query in the schema of one service. Its tables need no schema prefix. */
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
  within(service: string, sql: string, params?: readonly unknown[]): Promise<any[]>;
  /** Base URL of the acquirer. */
  readonly acquirerUrl: string;
  /** How long work may be in progress before it counts as left behind; 0 if all work has ended. */
  readonly graceSeconds: number;
}

export interface ShopDataOptions {
  /** An administrator's connection that may read every schema. Queries use it one at a time. */
  connection: Connection;
  /** Schema by service. */
  schemas: Readonly<Record<string, string>>;
  acquirerUrl: string;
  graceSeconds: number;
}

export function openShopData({ connection, schemas, acquirerUrl, graceSeconds }: ShopDataOptions): ShopData {
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
