export { crashPoint } from './crash-point.ts';
export { type Arrival, type SyncPoint, syncPoint } from './sync-point.ts';
