export { crashPoint } from './crash-point.ts';
export { type Arrival, raceGate } from './race-gate.ts';
