export { createLogger, type Logger } from './log.ts';
export { Counter, createRegistry, Gauge, Histogram, latencyBuckets, Registry } from './metrics.ts';
