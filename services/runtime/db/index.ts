export { type Database, openDatabase } from './database.ts';
export { driverUrl } from './tls.ts';
