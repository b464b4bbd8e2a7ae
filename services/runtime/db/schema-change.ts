/**
 * The statements of migrations. Every one can run again, because DDL commits by itself: an interrupted migration has
 * applied its first statements, and its next run starts at the first one again.
 *
 * MariaDB has IF NOT EXISTS for columns and indexes, MySQL 8.4 does not, so these steps query information_schema first.
 */
export interface Migration {
  /** Recorded in the table `migration` once every step is applied. Unique in a schema; never changed afterwards. */
  readonly name: string;
  /** Lists the steps in order. Runs nothing, so it may be called at any time. */
  up(change: SchemaChange): void;
}

export interface SchemaChange {
  /**
   * Adds a statement that can run again unchanged: `create table if not exists`, `drop table if exists`, `alter table …
   * comment =`, `alter table … modify column`, an insert with `on duplicate key update`, an update or a delete that
   * finds no rows the second time. Anything else throws. A data move and the drop of a column that it reads belong in
   * two migrations.
   */
  run(statement: string): void;
  /** `definition` as in CREATE TABLE without the name: `varchar(64) not null default ''`. */
  addColumn(table: string, column: string, definition: string): void;
  dropColumn(table: string, column: string): void;
  /** `columns` in parentheses: `(published_at, position)`. */
  addIndex(table: string, index: string, columns: string): void;
  addUniqueIndex(table: string, index: string, columns: string): void;
  dropIndex(table: string, index: string): void;
  /** `definition` as after the name in CREATE TABLE: `check (quantity > 0)`. */
  addConstraint(table: string, constraint: string, definition: string): void;
  dropConstraint(table: string, constraint: string): void;
  /**
   * Adds a procedure that runs with the rights of the migrating account; one of the same name is replaced. It grants
   * the service's account a narrow right, such as to delete old rows of a table that is append-only for it.
   * `parameters` and `body` as in CREATE PROCEDURE, without the parentheses of the parameters.
   */
  addProcedure(procedure: string, parameters: string, body: string): void;
}

/** One statement, and the query that tells whether it must run. */
export interface Step {
  readonly statement: string;
  /** The statement runs when what it names is present (true) or absent (false); without it, always. */
  readonly runsWhen?: { readonly query: string; readonly params: readonly string[]; readonly present: boolean };
}

const rerunnable = [
  /^create table if not exists /,
  /^drop table if exists /,
  /^alter table \S+ comment =/,
  /^alter table \S+ modify column [^,]*(\([^)]*\)[^,]*)*$/,
  /^insert into .* on duplicate key update /,
  /^update /,
  /^delete from /,
];

/** The steps of a migration, in order. Throws for a statement that could not run again. */
export function stepsOf(migration: Migration): Step[] {
  const steps: Step[] = [];
  const alter = (table: string, change: string, kind: Kind, name: string, present: boolean) => {
    for (const one of [table, name]) assertName(migration, one);
    const statement = `alter table ${table} ${change}`;
    steps.push({ statement, runsWhen: { query: lookups[kind], params: [table, name], present } });
  };
  migration.up({
    run(statement) {
      const text = statement.replace(/\s+/g, ' ').trim();
      if (!rerunnable.some((form) => form.test(text.toLowerCase()))) {
        throw new Error(
          `${migration.name}: this statement fails or acts twice when it runs again; use addColumn and its like, ` +
            `"if not exists" or "on duplicate key update": ${text.slice(0, 200)}`,
        );
      }
      steps.push({ statement });
    },
    addColumn: (table, column, definition) =>
      alter(table, `add column ${column} ${definition}`, 'column', column, false),
    dropColumn: (table, column) => alter(table, `drop column ${column}`, 'column', column, true),
    addIndex: (table, index, columns) => alter(table, `add index ${index} ${columns}`, 'index', index, false),
    addUniqueIndex: (table, index, columns) =>
      alter(table, `add unique index ${index} ${columns}`, 'index', index, false),
    dropIndex: (table, index) => alter(table, `drop index ${index}`, 'index', index, true),
    addConstraint: (table, constraint, definition) =>
      alter(table, `add constraint ${constraint} ${definition}`, 'constraint', constraint, false),
    dropConstraint: (table, constraint) =>
      alter(table, `drop constraint ${constraint}`, 'constraint', constraint, true),
    addProcedure(procedure, parameters, body) {
      assertName(migration, procedure);
      steps.push({ statement: `drop procedure if exists ${procedure}` });
      steps.push({ statement: `create procedure ${procedure} (${parameters}) sql security definer ${body}` });
    },
  });
  return steps;
}

type Kind = 'column' | 'index' | 'constraint';

const lookup = (view: string, column: string) =>
  `select 1 as present from information_schema.${view}
   where table_schema = database() and table_name = ? and ${column} = ? limit 1`;

const lookups: Record<Kind, string> = {
  column: lookup('columns', 'column_name'),
  index: lookup('statistics', 'index_name'),
  constraint: lookup('table_constraints', 'constraint_name'),
};

/** Names go into statements unquoted, and information_schema compares them as they are. */
function assertName(migration: Migration, name: string): void {
  if (!/^[a-z][a-z0-9_]{0,63}$/.test(name)) {
    throw new Error(`${migration.name}: "${name}" is no name of ours: lower-case letters, digits and underscores`);
  }
}
