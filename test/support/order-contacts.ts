import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import { rpcError } from '@armature/runtime';
import { decode, type Implementation, implement, receive, startServer } from '@armature/runtime/rpc';
import { createLogger } from '@armature/runtime/telemetry';
import type { Teardown } from './infra.ts';
import { workloadCertificate } from './service.ts';

export interface OrderContacts {
  readonly address: string;
  /** The response for every order; empty: it was erased. */
  contactEmail: string;
}

/** Stands for orders where a test publishes the events of orders itself: it knows the address of every order. */
export async function openOrderContacts(t: Teardown): Promise<OrderContacts> {
  const contacts = { address: '', contactEmail: 'ada@example.com' };
  const refuse = (): never => {
    throw rpcError('UNIMPLEMENTED', '', 'this stand-in knows addresses only');
  };
  const names = Object.keys(OrderServiceContract.methods);
  const server = await startServer({
    address: '127.0.0.1:0',
    tls: await workloadCertificate('orders'),
    trustDomain: 'armature.local',
    registrations: [
      implement(OrderServiceContract, {
        ...(Object.fromEntries(names.map((name) => [name, refuse])) as unknown as Implementation<
          typeof OrderServiceContract
        >),
        getOrderContact: async () => ({ contactEmail: contacts.contactEmail }),
      }),
    ],
    chain: (method) => [receive, decode(method)],
    log: createLogger('orders', 'error'),
  });
  t.teardown(() => server.drain(0));
  return Object.assign(contacts, { address: server.address });
}
