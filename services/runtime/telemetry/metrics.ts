import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { withTimeout } from '../time/timeout.ts';

export { Counter, Gauge, Histogram, Registry };

/** Makes a separate registry, so that two services in one process have separate numbers. */
export function createRegistry(service: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });
  return registry;
}

/** Buckets for latencies, seconds: fine where calls should be, coarse where they should not. */
export const latencyBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Time limit for reading one metric; a scrape has ten seconds by default. */
const readWithinMs = 2_000;

/**
 * Returns all metrics as text. Some are read from the database at the scrape. One that cannot be read in time is left
 * out and counted, so that the others stay visible when they are needed most.
 */
export async function exposition(registry: Registry): Promise<string> {
  const names = registry.getMetricsAsArray().map((metric) => metric.name);
  const texts = await Promise.allSettled(
    names.map((name) => withTimeout(readWithinMs, registry.getSingleMetricAsString(name), name)),
  );
  const readable = texts.flatMap((text) => (text.status === 'fulfilled' ? [text.value] : []));
  const unreadable = names.length - readable.length;
  const last = `# HELP armature_metrics_unreadable Metrics that could not be read this time\n# TYPE armature_metrics_unreadable gauge\narmature_metrics_unreadable ${unreadable}`;
  return `${[...readable, last].join('\n\n')}\n`;
}
