import type { EventContract, ServiceContract } from '@armature/proto/contract.ts';

/** A permission, and the methods and events that require it. */
export interface KnownPermission {
  name: string;
  /** Paths. */
  methods: string[];
  /** Full names. */
  events: string[];
}

/** Permissions that the runtime checks without a contract: channelz has none here. */
const ofTheRuntime = { 'ops.channelz': '/grpc.channelz.v1.Channelz' } as const;

/**
 * The contracts of all services, loaded when first asked for: nothing else here uses most of their messages, and an
 * idle service saves their memory. A contract that is missing here makes its permissions unknown; permissions.test.ts
 * compares the list with the proto files.
 */
const loadContracts = (): Promise<object[]> =>
  Promise.all([
    import('@armature/proto/access/v1/contract.ts'),
    import('@armature/proto/catalog/v1/contract.ts'),
    import('@armature/proto/identity/v1/contract.ts'),
    import('@armature/proto/inventory/v1/contract.ts'),
    import('@armature/proto/notifications/v1/contract.ts'),
    import('@armature/proto/ops/v1/contract.ts'),
    import('@armature/proto/orders/v1/contract.ts'),
    import('@armature/proto/payments/v1/contract.ts'),
  ]);

/** Every permission that a contract names, by name. */
export async function knownPermissions(): Promise<KnownPermission[]> {
  const known = new Map<string, KnownPermission>();
  const at = (name: string): KnownPermission => {
    const found = known.get(name) ?? { name, methods: [], events: [] };
    known.set(name, found);
    return found;
  };
  for (const [name, path] of Object.entries(ofTheRuntime)) at(name).methods.push(path);
  for (const exported of (await loadContracts()).flatMap((module): unknown[] => Object.values(module))) {
    if (isService(exported)) {
      for (const { permission, path } of Object.values(exported.methods)) at(permission).methods.push(path);
    } else if (isEvent(exported)) at(exported.permission).events.push(exported.type);
  }
  return [...known.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
const isService = (value: unknown): value is ServiceContract => isObject(value) && 'methods' in value;
const isEvent = (value: unknown): value is EventContract => isObject(value) && 'routingKey' in value;
