import { Gauge, type Registry } from '../telemetry/metrics.ts';
import type { TlsWatch } from './tls-files.ts';

/**
 * Reports the remaining time, so that an alert needs no clock of its own; below zero every peer refuses this
 * certificate.
 */
export function certificateGauge(registry: Registry, watch: TlsWatch): void {
  new Gauge({
    name: 'armature_certificate_expiry_seconds',
    help: 'Seconds until the certificate in use ends',
    registers: [registry],
    collect() {
      this.set((watch.current().expiresAt.getTime() - Date.now()) / 1000);
    },
  });
}
