import type { ServiceContract } from '@armature/proto/contract.ts';
import type { Config, runtimeVariables } from '../config/config.ts';
import type { TlsWatch } from '../credentials/tls-files.ts';
import type { Registry } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { type Client, createClient } from './client.ts';
import { rpcMetrics } from './metrics.ts';

type Connect = <K extends ServiceContract>(contract: K, service: string, addresses: readonly string[]) => Client<K>;

/** Makes clients that have this service's certificate, metrics and traces. */
export interface ClientFactory {
  /** Opens a client that the caller must close. */
  readonly open: Connect;
  /** Opens a client that lives as long as the service. */
  readonly connect: Connect;
  /** Closes the clients that live as long as the service. */
  close(): void;
}

export function clientFactory(
  config: Config<typeof runtimeVariables>,
  tls: TlsWatch,
  registry: Registry,
  tracing: Tracing,
): ClientFactory {
  const metrics = rpcMetrics(registry, 'client');
  const kept: { close(): void }[] = [];
  const open: Connect = (contract, service, addresses) =>
    createClient(contract, {
      addresses,
      tls,
      expectWorkload: `service:${service}`,
      trustDomain: config.trustDomain,
      interceptors: (method) => [metrics(method), tracing.interceptor],
    });
  return {
    open,
    connect(contract, service, addresses) {
      const client = open(contract, service, addresses);
      kept.push(client);
      return client;
    },
    close() {
      for (const client of kept) client.close();
    },
  };
}
