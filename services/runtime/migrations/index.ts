export { migrate } from '../db/migrate.ts';
export { type Migration, type SchemaChange, stepsOf } from '../db/schema-change.ts';
export { runtimeMigrations } from './runtime-migrations.ts';
