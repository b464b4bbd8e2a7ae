import {
  type CallOptions,
  type ConnectOptions,
  catalogClient,
  inventoryClient,
  ledgerClient,
  notificationsClient,
  ordersClient,
  paymentsClient,
} from '@armature/clients';
import { certificateOf } from '../cli/call/principal.ts';
import { tokenFor } from '../cli/call/tokens.ts';
import type { Mesh } from '../devmesh/mesh.ts';
import { addressOf } from '../devmesh/running-mesh.ts';

/** Every service of the running mesh by its typed client, with the developer's certificate. */
export interface Shop extends ReturnType<typeof clientsOf> {
  mesh: Mesh;
  /** Ends every wait when the time of the whole program is over. */
  signal: AbortSignal;
  /** The options of a call that a user makes. */
  as(user: string): Promise<CallOptions>;
  close(): void;
}

export function openShop(mesh: Mesh, signal: AbortSignal): Shop {
  const { cert, key } = certificateOf(mesh, 'developer');
  const tls = { certFile: cert, keyFile: key, caFile: mesh.certificates.ca };
  const clients = clientsOf((service) => ({ addresses: [addressOf(mesh, service)], tls }));
  const tokens = new Map<string, Promise<string>>();
  return {
    ...clients,
    mesh,
    signal,
    async as(user) {
      const token = tokens.get(user) ?? tokenFor({ kind: 'user', id: user }, mesh);
      tokens.set(user, token);
      return { token: await token, signal };
    },
    close() {
      for (const client of Object.values(clients)) client.close();
    },
  };
}

function clientsOf(to: (service: string) => ConnectOptions) {
  return {
    catalog: catalogClient(to('catalog')),
    inventory: inventoryClient(to('inventory')),
    payments: paymentsClient(to('payments')),
    ledger: ledgerClient(to('payments')),
    orders: ordersClient(to('orders')),
    notifications: notificationsClient(to('notifications')),
  };
}
