import { Gauge, type Registry } from '../telemetry/metrics.ts';

/** Reports for each queue whether it is consumed. `fault` returns the reason why not; null when it is. */
export function queueGauge(queues: ReadonlyMap<string, { fault(): string | null }>, registry: Registry): void {
  new Gauge({
    name: 'armature_consumer_ready',
    help: '1 where the queue is declared as it must be and consumed',
    labelNames: ['queue'] as const,
    registers: [registry],
    collect() {
      for (const [queue, { fault }] of queues) this.set({ queue }, fault() === null ? 1 : 0);
    },
  });
}
