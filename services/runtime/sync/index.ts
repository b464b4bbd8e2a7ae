export { crashPoint } from './crash-point.ts';
export { type Arrival, syncPoint } from './sync-point.ts';
